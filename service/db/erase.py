"""Erased people: a hash of their e-mail stays, so that replayed events cannot bring them back."""


def email_hash(email_key: str) -> str:
    """Write the SQL of the salted hash by which an erased e-mail is recognised."""
    return f"sha256((SELECT salt FROM installation) || convert_to({email_key}, 'UTF8'))"
