"""Which passwords are accepted, and how they are hashed and checked."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pwdlib.hashers.argon2 import Argon2Hasher

from app.errors import FieldError
from app.users import passwords
from app.users.common_passwords import COMMON_PASSWORDS
from app.users.passwords import (
    HASHES_AT_ONCE,
    check_password,
    generate_password,
    hash_password,
    require_acceptable,
    verify_password,
)
from tests.users.accounts import PASSWORD, PASSWORD_HASH

costly = pytest.mark.usefixtures("costly_hashes")


class TestRules:
    @pytest.mark.parametrize(
        "password",
        [
            PASSWORD,
            "abcdefghijkz",
            "x" * 127 + "y",
            "            .",
            "密码密码密码密码密码密码",
            "🦊🐻🐼🐨🐯🦁🐮🐷🐸🐵🐔🐧",
        ],
    )
    def test_of_12_to_128_characters_of_any_kind_are_accepted(self, password: str) -> None:
        require_acceptable(password)

    @pytest.mark.parametrize(
        ("password", "code"),
        [
            ("", "too_short"),
            ("abcdefghijk", "too_short"),
            ("x" * 128 + "y", "too_long"),
            ("password1234", "too_common"),
            ("PassWord1234", "too_common"),
            (" password1234 ", "too_common"),
            ("ｐassword1234", "too_common"),
            ("aaaaaaaaaaaaaa", "too_common"),
            ("seven quiet \x00 lighthouses", "invalid_format"),
            ("seven quiet \ud800 lighthouses", "invalid_format"),
        ],
    )
    def test_others_are_refused(self, password: str, code: str) -> None:
        with pytest.raises(FieldError) as refusal:
            require_acceptable(password)
        assert refusal.value.code == code
        assert password == "" or password not in refusal.value.message

    @pytest.mark.parametrize("password", ["janedoejanedoe", "JaneDoe12345!"[:12], "12janedoe345"])
    def test_that_are_hardly_more_than_the_name_are_refused(self, password: str) -> None:
        require_acceptable(password)
        with pytest.raises(FieldError, match="user name"):
            require_acceptable(password, "janedoe")

    def test_that_hold_the_name_and_more_are_accepted(self) -> None:
        require_acceptable("jane likes lighthouses", "jane")
        require_acceptable(PASSWORD, "e")

    def test_the_list_of_common_ones_is_in_the_form_that_is_looked_up(self) -> None:
        assert len(COMMON_PASSWORDS) > 300
        assert [each for each in COMMON_PASSWORDS if each != each.casefold() or not 12 <= len(each) <= 128] == []


class TestGenerated:
    def test_are_acceptable_and_never_the_same(self) -> None:
        made = {generate_password() for _ in range(100)}
        assert len(made) == 100
        for password in made:
            require_acceptable(password, "admin")
            assert re.fullmatch(r"([a-z2-9]{4}-){4}[a-z2-9]{4}", password)


class TestHash:
    @costly
    async def test_is_argon2id_and_checked(self) -> None:
        made = await hash_password(PASSWORD)
        assert made.startswith("$argon2id$")
        assert made != await hash_password(PASSWORD)
        assert await verify_password(PASSWORD, made)
        assert not await verify_password(PASSWORD + "!", made)

    async def test_is_the_same_however_a_character_is_composed(self) -> None:
        assert await verify_password("cafe\u0301 au lait, please", await hash_password("café au lait, please"))

    @pytest.mark.parametrize("stored", [None, "!", "", "$argon2id$rubbish"])
    async def test_that_is_none_is_nobodys(self, stored: str | None) -> None:
        assert not await verify_password(PASSWORD, stored)

    async def test_of_what_utf_8_cannot_hold_is_just_wrong(self) -> None:
        assert not await verify_password("\ud800", PASSWORD_HASH)

    @costly
    def test_the_stand_in_takes_as_long_as_todays_hashes(self) -> None:
        """A hash tells its parameters, and by them its time."""
        todays = Argon2Hasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)
        assert not todays.check_needs_rehash(passwords.NOBODYS_HASH)
        assert not passwords._argon2.check_needs_rehash(passwords.NOBODYS_HASH)

    def test_the_hashes_of_tests_take_as_long_as_each_other(self) -> None:
        for stored in (passwords.NOBODYS_HASH, PASSWORD_HASH):
            assert not passwords._argon2.check_needs_rehash(stored)

    @costly
    async def test_with_other_parameters_is_made_anew(self) -> None:
        old = Argon2Hasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
        check = await check_password(PASSWORD, old)
        assert check.is_right
        assert check.new_hash is not None
        assert (await check_password(PASSWORD, check.new_hash)).new_hash is None
        assert (await check_password("wrong", old)).new_hash is None

    async def test_few_are_made_at_once(self) -> None:
        assert isinstance(passwords._threads, ThreadPoolExecutor)
        assert passwords._threads._max_workers == HASHES_AT_ONCE <= 4


class TestTime:
    """Whether there is anything to compare with or not, one hash is made."""

    @pytest.mark.parametrize("stored", [None, "!", PASSWORD_HASH])
    async def test_one_verification_whatever_there_is(
        self, monkeypatch: pytest.MonkeyPatch, stored: str | None
    ) -> None:
        seen: list[Any] = []
        verify = passwords._argon2.verify
        monkeypatch.setattr(passwords._argon2, "verify", lambda *each: seen.append(each[1]) or verify(*each))
        await verify_password("wrong", stored)
        assert seen == [stored if stored == PASSWORD_HASH else passwords.NOBODYS_HASH]
