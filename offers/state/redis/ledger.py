"""Budgets and their usage in Redis. They are as durable as Redis is configured to be (appendonly)."""

from collections.abc import Iterable, Sequence

from offers.model.money import MICROS
from offers.state.redis.server import Argument, RedisServer, Script
from offers.state.stores import DONE, FORGET_EVERY_S, KEPT_S, PERIOD_KEPT_S, Demand, RedemptionOutcome, Usage, refused

_USED = "offers:used"
_EXPIRED_AT_ONCE = 500

# Money is sent as whole units and micros, each exact as a double, the only number of Lua.
# Usage is one hash, with the fields "u" (units), "h" (whole money) and "l" (micros), each with period and budget.
# A redemption is a hash of its phase, the second until which it is held, and the demands it holds, as in the arguments.
_COMMON = """
local function move(d, sign)
  local last = d[2] == '0' and 1 or 2
  local used = {}
  for i = 1, last do
    local at = (i == 1 and '0' or d[2]) .. ':' .. d[1]
    used[i] = {}
    for j, field in ipairs({'u:', 'h:', 'l:'}) do
      local amount = string.format('%.0f', 0 + sign * tonumber(d[j + 2]))  -- 0 + -0 is 0
      used[i][j] = redis.call('HINCRBY', 'offers:used', field .. at, amount)
    end
  end
  return used
end
local function over(d, used)
  for i = 1, #used do
    local units, whole, rest = unpack(used[i])
    local most, most_whole, most_rest = tonumber(d[3 + 3 * i]), tonumber(d[4 + 3 * i]), tonumber(d[5 + 3 * i])
    whole = whole + math.floor(rest / 1000000)
    rest = rest % 1000000
    if d[3] ~= '0' and most >= 0 and units > most then return true end
    if (d[4] ~= '0' or d[5] ~= '0') and most_whole >= 0
      and (whole > most_whole or (whole == most_whole and rest > most_rest)) then return true end
  end
  return false
end
local function take(demands)
  for i, d in ipairs(demands) do
    if over(d, move(d, 1)) then
      for j = 1, i do move(demands[j], -1) end
      return d[1]
    end
  end
  return false
end
local function give_back(key)
  for _, d in ipairs(cjson.decode(redis.call('HGET', key, 'held'))) do move(d, -1) end
end
local function finish(redemption, phase)
  local key = 'offers:r:' .. redemption
  redis.call('DEL', key)
  redis.call('HSET', key, 'phase', phase)
  redis.call('EXPIRE', key, %(kept)d)
  redis.call('ZREM', 'offers:held', redemption)
end
""".replace("%(kept)d", str(KEPT_S))
# Arguments: step, redemption, now, until; and eleven for each demand: budget, period; units, whole money and micros of
# the demand; the same three of the total limit; the same three of the period's limit.
_STEP = Script(
    _COMMON
    + """
local step, redemption, now = ARGV[1], ARGV[2], tonumber(ARGV[3])
local key = 'offers:r:' .. redemption
local phase = redis.call('HGET', key, 'phase') or 'unknown'
if phase == 'held' and tonumber(redis.call('HGET', key, 'until')) <= now then
  give_back(key)
  phase = 'expired'
  finish(redemption, phase)
end
local demands = {}
for i = 5, #ARGV, 11 do
  local d = {}
  for j = 0, 10 do d[j + 1] = ARGV[i + j] end
  demands[#demands + 1] = d
end
if step == 'reserve' then
  if phase == 'released' or phase == 'expired' then return {phase, ''} end
  if phase == 'unknown' then
    local lacking = take(demands)
    if lacking then return {'exhausted', lacking} end
    redis.call('HSET', key, 'phase', 'held', 'until', ARGV[4], 'held', cjson.encode(demands))
    redis.call('ZADD', 'offers:held', ARGV[4], redemption)
  end
elseif step == 'confirm' then
  if phase == 'released' then return {phase, ''} end
  if phase == 'unknown' or phase == 'expired' then
    local lacking = take(demands)
    if lacking then return {'exhausted', lacking} end
  end
  if phase ~= 'confirmed' then finish(redemption, 'confirmed') end
else
  if phase == 'unknown' or phase == 'confirmed' then return {phase, ''} end
  if phase == 'held' then give_back(key) end
  if phase ~= 'released' then finish(redemption, 'released') end
end
return {'', ''}
"""
)
_EXPIRE = Script(
    _COMMON
    + """
local due = redis.call('ZRANGEBYSCORE', 'offers:held', '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, redemption in ipairs(due) do
  give_back('offers:r:' .. redemption)
  finish(redemption, 'expired')
end
return #due
"""
)


class RedisLedger:
    """A Ledger in Redis."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._forget_at = 0

    def reserve(self, redemption: str, demands: Sequence[Demand], now: int, until: int) -> RedemptionOutcome:
        """See Ledger."""
        return self._step("reserve", redemption, now, until, demands)

    def confirm(self, redemption: str, demands: Sequence[Demand], now: int) -> RedemptionOutcome:
        """See Ledger."""
        return self._step("confirm", redemption, now, 0, demands)

    def release(self, redemption: str, now: int) -> RedemptionOutcome:
        """See Ledger."""
        return self._step("release", redemption, now, 0, ())

    def expire(self, now: int) -> int:
        """See Ledger. Redis itself removes old redemptions, by its own clock."""
        expired = 0
        while True:
            count: int = self._server.run(_EXPIRE, now, _EXPIRED_AT_ONCE)
            expired += count
            if count < _EXPIRED_AT_ONCE:
                break
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY_S
            fields = self._server.ask([("HKEYS", _USED)])[0]
            old = [one for one in fields if 0 < int(one.split(b":", 2)[1]) <= now - PERIOD_KEPT_S]
            if old:
                self._server.ask([("HDEL", _USED, *old)])
        return expired

    def usage(self) -> Iterable[Usage]:
        """See Ledger."""
        found = self._server.ask([("HGETALL", _USED)])[0]
        amounts = dict(zip(found[::2], found[1::2], strict=True)) if isinstance(found, list) else found
        usage = []
        for field, units in amounts.items():
            sort, period, budget = field.split(b":", 2)
            if sort == b"u":
                at = b":%b:%b" % (period, budget)
                micros = int(amounts[b"h" + at]) * MICROS + int(amounts[b"l" + at])
                usage.append(Usage(budget.decode(), int(period), int(units), micros))
        return usage

    def close(self) -> None:
        """See Ledger."""
        self._server.close()

    def _step(self, step: str, redemption: str, now: int, until: int, demands: Sequence[Demand]) -> RedemptionOutcome:
        arguments = [argument for demand in demands for argument in _arguments(demand)]
        reason, budget = self._server.run(_STEP, step, redemption, now, until, *arguments)
        return refused(reason.decode(), budget.decode()) if reason else DONE


def _arguments(demand: Demand) -> list[Argument]:
    budget, period, units, micros, max_units, max_micros, max_period_units, max_period_micros = demand
    return [
        budget, period, units, *divmod(micros, MICROS), max_units, *divmod(max_micros, MICROS),
        max_period_units, *divmod(max_period_micros, MICROS),
    ]  # fmt: skip
