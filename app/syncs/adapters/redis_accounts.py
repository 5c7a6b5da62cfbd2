"""Accounts of a Redis server, from the lines of ACL LIST, which are the rules that would make them again.

https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/

A line holds, in this order: `user`, the name, flags, hashes of passwords, patterns of keys and channels, rules on
commands, and from Redis 7 on selectors in parentheses, each with patterns and rules of its own.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from app.inventory.records import FoundAccount, JsonValue
from app.syncs.adapters.rights import Rights

_KEY_RIGHTS = {"~": ("READ", "WRITE"), "%R~": ("READ",), "%W~": ("WRITE",), "%RW~": ("READ", "WRITE")}
_CHANNEL_RIGHTS = ("PUBLISH", "SUBSCRIBE")
# Said where nothing else is granted; they take nothing away.
_NOTHING = frozenset({"resetkeys", "resetchannels", "resetdbs", "-@all"})
_FLAGS = frozenset({"on", "off", "nopass", "sanitize-payload", "skip-sanitize-payload"})


@dataclass(slots=True)
class _Rules:
    """Of an account itself, or of one selector; each as the server writes it, in its order."""

    flags: list[str] = field(default_factory=list)
    passwords: int = 0
    patterns: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def add(self, rule: str) -> None:
        if rule.startswith(("#", ">", "<", "!")):
            # A password's hash: that there is one is all that leaves this place.
            self.passwords += 1
        elif rule in _FLAGS:
            self.flags.append(rule)
        elif rule.startswith(("~", "%", "&")):
            self.patterns.append(rule)
        elif rule.startswith(("+", "-")):
            self.commands.append(rule)
        elif rule not in _NOTHING:
            self.others.append(rule)


def account_of(line: str) -> FoundAccount | None:
    """None for what is no line of ACL LIST."""
    word, _, rest = line.partition(" ")
    name, _, rest = rest.partition(" ")
    if word != "user" or not name:
        return None
    own, *selectors = _rules(rest.split())
    return FoundAccount(
        username=name,
        is_superuser=_is_superuser(own),
        can_login="nopass" in own.flags or own.passwords > 0,
        is_locked="off" in own.flags,
        authentication_method="nopass" if "nopass" in own.flags else "password" if own.passwords else None,
        attributes=_attributes(own, selectors),
        permissions=_rights(own, selectors).found(),
    )


def _rules(words: Iterable[str]) -> list[_Rules]:
    """The account's own, then those of each selector."""
    parts = [_Rules()]
    in_selector = False
    for word in words:
        if word.startswith("("):
            parts.append(_Rules())
            in_selector = True
        # Patterns may end with a parenthesis; a selector's last word is a rule on commands.
        ends = in_selector and word.endswith(")") and word.lstrip("(").startswith(("+", "-"))
        text = word.removeprefix("(") if word.startswith("(") else word
        (parts[-1] if in_selector else parts[0]).add(text.removesuffix(")") if ends else text)
        in_selector = in_selector and not ends
    return parts


def _rights(own: _Rules, selectors: Iterable[_Rules]) -> Rights:
    rights = Rights()
    for right in _commands(own):
        rights.add(right)
    for pattern in own.patterns:
        name, on_pattern = _on_pattern(pattern)
        for right in on_pattern:
            rights.add_on_object(name, right)
    for selector in selectors:
        # What it allows holds for its own patterns only.
        for right in _commands(selector):
            rights.add_on_object(f"({' '.join(selector.patterns)})", right)
    return rights


def _commands(rules: _Rules) -> Iterator[str]:
    """`@read`, `get`, `config|get` for what is allowed, and `-debug` for what is taken out of it."""
    for place, rule in enumerate(rules.commands):
        if not (place == 0 and rule == "-@all"):
            yield rule.removeprefix("+")


def _on_pattern(pattern: str) -> tuple[str, tuple[str, ...]]:
    if pattern.startswith("&"):
        return pattern, _CHANNEL_RIGHTS
    kind, mark, keys = pattern.partition("~")
    return f"~{keys}", _KEY_RIGHTS.get(kind + mark, ())


def _is_superuser(rules: _Rules) -> bool:
    """Every command on every key. Single commands may be taken out, but neither a category nor the command that would
    give them back."""
    if "+@all" not in rules.commands or not {"~*", "%RW~*"}.intersection(rules.patterns):
        return False
    after = rules.commands[rules.commands.index("+@all") + 1 :]
    return not any(rule.startswith("-@") or rule.partition("|")[0] == "-acl" for rule in after)


def _attributes(own: _Rules, selectors: Iterable[_Rules]) -> dict[str, JsonValue]:
    """The rules on commands once more in their order, which counts, and which the sorted rights do not keep."""
    attributes: dict[str, JsonValue] = {
        "flags": sorted(own.flags),
        "password_count": own.passwords,
        "commands": " ".join(_in_order(own.commands)),
        "selectors": [" ".join([*each.patterns, *_in_order(each.commands), *each.others]) for each in selectors],
        "other_rules": sorted(own.others),
    }
    return {name: value for name, value in attributes.items() if value}


def _in_order(commands: Iterable[str]) -> Iterator[str]:
    """As the server has them, but for single commands next to each other: before 7.2 it tells them in another order
    after each restart, which would look like a change."""
    single: list[str] = []
    for rule in commands:
        if rule[1:2] != "@":
            single.append(rule)
            continue
        yield from sorted(single, key=_command_of)
        single.clear()
        yield rule
    yield from sorted(single, key=_command_of)


def _command_of(rule: str) -> str:
    return rule[1:]
