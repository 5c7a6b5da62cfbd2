"""How often a caller may call in a minute. Each process counts for itself, in memory.

- everything: per caller (an API key counts apart from its owner), and per address for strangers; refused attempts to
  be somebody count as a stranger's, so that guessing is limited too
- batch calls: per caller, on top of that
- sign-ins: per address and account, and more of them per address, which is known before the body is read

A minute begins with the first call that is counted in it.
"""

import time
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from math import ceil

from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.aio.strategies import FixedWindowRateLimiter

from app.access.rate_counters import MinuteCounters
from app.caller import Caller, current_call
from app.config import Settings
from app.errors import TooManyRequests

# Of one address, all accounts together: an office of many people signs in from one.
SIGN_INS_OF_ADDRESS_FACTOR = 6
MAX_ACCOUNT_CHARACTERS = 100
# Whoever has one IPv6 address has as many as they like, all of this network.
IPV6_NETWORK_BITS = 64


class RateLimits:
    def __init__(self, settings: Settings) -> None:
        self._is_off = settings.rate_limits == "off"
        self._counters = FixedWindowRateLimiter(MinuteCounters())
        sign_ins = settings.rate_limit_sign_ins
        self._requests = RateLimitItemPerMinute(settings.rate_limit_requests, namespace="requests")
        self._batches = RateLimitItemPerMinute(settings.rate_limit_batches, namespace="batches")
        self._sign_ins = RateLimitItemPerMinute(sign_ins, namespace="sign-ins")
        self._sign_ins_of_address = RateLimitItemPerMinute(
            sign_ins * SIGN_INS_OF_ADDRESS_FACTOR, namespace="sign-ins of address"
        )

    async def count_call(self, caller: Caller, *, is_batch: bool) -> None:
        """Raises TooManyRequests, as do the others, when there is no room for this call."""
        name = f"user {caller.user_id}" if caller.api_key_prefix is None else f"key {caller.api_key_prefix}"
        await self._count(self._requests, name)
        if is_batch:
            await self._count(self._batches, name)

    async def count_stranger(self, address: str | None) -> None:
        await self._count(self._requests, network_of(address))

    async def require_room_for_stranger(self, address: str | None) -> None:
        """Counts nothing: whoever turns out to be known does not count as a stranger."""
        if not self._is_off and not await self._counters.test(self._requests, network_of(address)):
            raise await self._refusal(self._requests, network_of(address))

    async def count_sign_in_of_address(self, address: str | None) -> None:
        await self._count(self._sign_ins_of_address, network_of(address))

    async def count_sign_in(self, address: str | None, username: str) -> None:
        # As accounts are looked up: writing a name differently gains nobody further attempts.
        account = username.strip().lower()[:MAX_ACCOUNT_CHARACTERS]
        await self._count(self._sign_ins, network_of(address), account)

    async def _count(self, limit: RateLimitItemPerMinute, *who: str) -> None:
        if not self._is_off and not await self._counters.hit(limit, *who):
            raise await self._refusal(limit, *who)

    async def _refusal(self, limit: RateLimitItemPerMinute, *who: str) -> TooManyRequests:
        ends_at, _ = await self._counters.get_window_stats(limit, *who)
        seconds = max(1, ceil(ends_at - time.time()))
        what = limit.namespace.partition(" ")[0]
        return TooManyRequests(f"more than {limit.amount} {what} in a minute; try again in {seconds} s", seconds)


async def limit_sign_in(request: Request, username: str) -> None:
    """To be called by the sign-in as soon as the account is known. Raises TooManyRequests."""
    limits = request.app.state.rate_limits
    assert isinstance(limits, RateLimits)
    await limits.count_sign_in(current_call().address, username)


@lru_cache(maxsize=10_000)
def network_of(address: str | None) -> str:
    """Whose an address is: of IPv6 the network, of which its owner has every address."""
    try:
        known = ip_address(address or "")
    except ValueError:
        return "nowhere"
    if not isinstance(known, IPv6Address):
        return str(known)
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(IPv6Address(int(known) >> 128 - IPV6_NETWORK_BITS << 128 - IPV6_NETWORK_BITS))
