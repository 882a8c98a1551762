"""API keys as text."""

from service.core.tokens import ApiKey


def test_a_key_is_parsed_back_from_its_text() -> None:
    for _ in range(300):  # some secrets have underscores
        key = ApiKey.make()
        read = ApiKey.parse(key.reveal())
        assert read
        assert (read.id, read.digest, len(read.digest)) == (key.id, key.digest, 32)
        assert key.reveal() not in f"{key!r} {key}"
