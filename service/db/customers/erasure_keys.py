"""Salted hashes of erased people's e-mails and ids: what recognises them, and tells nobody."""

from service.core.personal_ids import DIGEST_DIGITS, PREFIX

_SALT = "(SELECT salt FROM installation)"


def email_hash(email_key: str) -> str:
    """Return SQL for the salted hash by which an erased e-mail is recognised."""
    return f"sha256({_SALT} || convert_to({email_key}, 'UTF8'))"


def identifier_hash(identifier: str) -> str:
    """Return SQL for the salted hash by which an erased identifier is recognised.

    That of an e-mail is the hash of the bare e-mail, as earlier releases stored it.
    """
    return email_hash(f"regexp_replace({identifier}, '^email:', '')")


def pseudonym_sql(id_: str) -> str:
    """Return SQL for the pseudonym of an id, as `service.core.personal_ids.pseudonym` builds it."""
    digest = f"encode(sha256({_SALT} || convert_to({id_}, 'UTF8')), 'hex')"
    return f"('{PREFIX}' || left({digest}, {DIGEST_DIGITS}))"
