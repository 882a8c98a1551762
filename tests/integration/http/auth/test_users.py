"""Users: their passwords and roles, and how both are stored."""

import logging

import argon2
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.scopes import ROLE_SCOPES, Role, Scope
from service.db.accounts import passwords, users
from tests.conftest import Service

EMAIL, PASSWORD = "Jane@Example.com", "correct horse battery"


async def _jane(connection: AsyncConnection, role: Role = Role.EDITOR) -> users.User:
    return await users.add_user(connection, EMAIL, PASSWORD, role, actor="test")


@pytest.fixture
def compared_hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the hashes that passwords are compared with."""
    compared: list[str] = []
    verify = passwords._verify

    def spy(password: str, password_hash: str) -> bool:
        compared.append(password_hash)
        return verify(password, password_hash)

    monkeypatch.setattr(passwords, "_verify", spy)
    return compared


async def test_the_right_password_signs_in_and_no_other(empty_service: Service) -> None:
    async with empty_service.engine.begin() as connection:
        added = await _jane(connection)
        assert added.last_sign_in_at is None
        for email in (EMAIL, "jane@example.com", " JANE@EXAMPLE.COM "):
            user = await users.verify_password(connection, email, PASSWORD)
            assert user
            assert user.id == added.id
            assert user.actor == (EMAIL, ROLE_SCOPES[Role.EDITOR], f"user:{user.id}")
        for wrong in ("", PASSWORD + " ", PASSWORD.upper(), PASSWORD * 100, "\0"):
            assert await users.verify_password(connection, EMAIL, wrong) is None
        assert await users.verify_password(connection, "john@example.com", PASSWORD) is None
        user = await users.find_user(connection, added.id)
        assert user
        assert user.last_sign_in_at
    [row] = await empty_service.rows("SELECT password_hash FROM users")
    assert row["password_hash"].startswith("$argon2id$")
    audit = await empty_service.rows("SELECT actor, action, details FROM audit ORDER BY id")
    assert audit[0] == {
        "actor": "test",
        "action": "user.added",
        "details": {"user": added.id, "role": "editor"},
    }
    assert [note["action"] for note in audit[1:4]] == ["user.signed-in"] * 3
    failed = {"actor": "nobody", "action": "user.sign-in-failed"}
    assert audit[4:] == [
        *[failed | {"details": {"user": added.id}}] * 5,
        failed | {"details": {}},  # not the e-mail that was typed: it may be anybody's
    ]


async def test_refusing_an_unknown_user_takes_as_long_as_a_wrong_password(
    empty_service: Service, compared_hashes: list[str]
) -> None:
    async with empty_service.engine.begin() as connection:
        jane = await _jane(connection)
        assert await users.verify_password(connection, "nobody@example.com", PASSWORD) is None
        assert await users.verify_password(connection, EMAIL, "wrong") is None
        assert await users.disable_user(connection, EMAIL, actor="test")
        assert await users.verify_password(connection, EMAIL, PASSWORD) is None
        assert await users.find_user(connection, jane.id) is None
    assert len(compared_hashes) == 3
    assert compared_hashes[0] == compared_hashes[2] != compared_hashes[1]
    assert (
        len(
            {
                password_hash.rpartition("$")[0].rpartition("$")[0]
                for password_hash in compared_hashes
            }
        )
        == 1
    )  # all comparisons cost the same work


async def test_the_first_sign_in_takes_as_long_for_a_known_user_as_for_an_unknown_one(
    empty_service: Service,
) -> None:
    async with empty_service.engine.begin() as connection:
        await _jane(connection)
        for email in (EMAIL, "nobody@example.com"):
            passwords._stand_in_hash.cache_clear()
            await users.verify_password(connection, email, "wrong")
            assert passwords._stand_in_hash.cache_info().currsize == 1


async def test_the_stand_in_password_signs_nobody_in(empty_service: Service) -> None:
    async with empty_service.engine.begin() as connection:
        stand_in = "the password of users who do not exist"
        assert await passwords.matches(stand_in, passwords._stand_in_hash())
        assert not await passwords.matches(stand_in, None)
        assert await users.verify_password(connection, "nobody@example.com", stand_in) is None


@pytest.mark.parametrize("length", [0, 11, 1025])
async def test_a_password_that_is_too_short_or_too_long_is_refused(
    empty_service: Service, length: int
) -> None:
    async with empty_service.engine.begin() as connection:
        await _jane(connection)
        for attempt in (
            users.add_user(connection, "x@x.org", "x" * length, Role.ADMIN, actor="test"),
            users.set_password(connection, EMAIL, "x" * length, actor="test"),
        ):
            with pytest.raises(passwords.PasswordError, match=f"{length:,}"):
                await attempt


@pytest.mark.parametrize(
    "password",
    [
        *("password1234", "Password1234!", "P@ssw0rd1234", "qwerty123456", "123456789012"),
        *("1q2w3e4r5t6y", "iloveyou1234", "letmeinletmein", "x" * 1024, "november2026!"),
        *("jane@example.com", "Jane@Example", "recoveryessentials", "recoverycrm1"),
    ],
)
async def test_a_password_that_attackers_try_first_is_refused(
    empty_service: Service, password: str
) -> None:
    async with empty_service.engine.begin() as connection:
        await _jane(connection)
        before = await connection.scalar(text("SELECT password_hash FROM users"))
        with pytest.raises(passwords.PasswordError, match="easy to guess"):
            await users.set_password(connection, EMAIL, password, actor="test")
        assert await connection.scalar(text("SELECT password_hash FROM users")) == before


async def test_a_guessable_password_that_is_in_use_still_signs_in(empty_service: Service) -> None:
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash("password1234")
    async with empty_service.engine.begin() as connection:
        await _jane(connection)
        await connection.execute(text("UPDATE users SET password_hash = :it"), {"it": weak})
        assert await users.verify_password(connection, EMAIL, "password1234")


async def test_there_is_one_user_per_email(empty_service: Service) -> None:
    async with empty_service.engine.begin() as connection:
        await _jane(connection)
        with pytest.raises(users.UserExistsError):
            await users.add_user(connection, EMAIL.upper(), PASSWORD, Role.ADMIN, actor="test")
        assert [user.role for user in await users.list_users(connection)] == [Role.EDITOR]


async def test_role_and_password_can_be_changed(empty_service: Service) -> None:
    other = "a different staple"
    async with empty_service.engine.begin() as connection:
        await _jane(connection)
        assert await users.set_role(connection, EMAIL, Role.VIEWER, actor="test")
        user = await users.verify_password(connection, EMAIL, PASSWORD)
        assert user
        assert user.actor.scopes == {Scope.READ}
        assert await users.set_password(connection, EMAIL.lower(), other, actor="test")
        assert await users.verify_password(connection, EMAIL, PASSWORD) is None
        assert await users.disable_user(connection, EMAIL, actor="test")
        assert await users.set_password(connection, EMAIL, other, actor="test")  # enables
        assert await users.verify_password(connection, EMAIL, other)
        for missing in (
            users.set_role(connection, "x@x.org", Role.ADMIN, actor="test"),
            users.set_password(connection, "x@x.org", other, actor="test"),
            users.disable_user(connection, "x@x.org", actor="test"),
        ):
            assert not await missing
    details = await empty_service.rows("SELECT details FROM audit WHERE action LIKE '%set'")
    assert PASSWORD not in str(details)
    assert "argon2" not in str(details)


async def test_an_outdated_hash_is_renewed_at_the_next_sign_in(
    empty_service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)
    with caplog.at_level(logging.DEBUG):
        async with empty_service.engine.begin() as connection:
            await _jane(connection)
        await empty_service.execute("UPDATE users SET password_hash = :it", it=weak)
        hashes = []
        for _ in range(2):
            async with empty_service.engine.begin() as connection:
                assert await users.verify_password(connection, EMAIL, PASSWORD)
            [row] = await empty_service.rows("SELECT password_hash FROM users")
            hashes.append(row["password_hash"])
    assert weak not in hashes
    assert hashes[0] == hashes[1]
    assert argon2.extract_parameters(hashes[0]) == argon2.extract_parameters(
        passwords._stand_in_hash()
    )
    assert "jane" not in caplog.text.lower()


async def test_an_invalid_hash_signs_nobody_in(empty_service: Service) -> None:
    async with empty_service.engine.begin() as connection:
        await _jane(connection)
    await empty_service.execute("UPDATE users SET password_hash = ''")
    async with empty_service.engine.begin() as connection:
        assert await users.verify_password(connection, EMAIL, PASSWORD) is None
