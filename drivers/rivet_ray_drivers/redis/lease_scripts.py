"""The scripts of the leases of hosts; `scripts` puts its prelude before them."""

from __future__ import annotations

from rivet_ray.store import LEASE_KEPT

KEPT = f"""
-- A lease is no key that expires and so tells of a death: this only sweeps it, much later.
local LEASE_KEPT = {LEASE_KEPT:.0f}
"""

WRITTEN = r"""
-- Notes in the shard's index of leases that one was written now. Sweeps that index of leases
-- that have expired; if nobody writes any of them, it expires as a whole.
local function lease_written(index, lease, incarnation)
  local now = redis.call('TIME')[1]
  redis.call('ZADD', index, now, incarnation)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', now - LEASE_KEPT)
  redis.call('EXPIRE', index, LEASE_KEPT)
  redis.call('EXPIRE', lease, LEASE_KEPT)
end
"""

RENEW = r"""
-- KEYS: identity, lease, index of leases.  ARGV: store, seen, incarnation, beat, address.
-- Gives {changes, 1 if done}.
local lease, index, incarnation, given = KEYS[2], KEYS[3], ARGV[3], tonumber(ARGV[4])
local beat, dead = fields(lease, 'beat', 'dead')
if dead or (not beat and given ~= 1) then
  return {tonumber(changes), 0}
end
if not beat or given > tonumber(beat) then
  redis.call('ZCARD', index)  -- A key of another kind fails before anything is written.
  redis.call('HSET', lease, 'v', FORMAT, 'beat', ARGV[4], 'address', ARGV[5])
  lease_written(index, lease, incarnation)
  count_a_change()
end
return {tonumber(changes), 1}
"""

MARK_DEAD = r"""
-- KEYS: identity, lease, index of leases.  ARGV: store, seen, incarnation, beat.
-- Gives {changes, 1 if done}.
local lease, index, incarnation, given = KEYS[2], KEYS[3], ARGV[3], tonumber(ARGV[4])
local beat, dead = fields(lease, 'beat', 'dead')
if dead then
  return {tonumber(changes), 1}
end
if not beat or tonumber(beat) ~= given then
  return {tonumber(changes), 0}
end
redis.call('ZCARD', index)
redis.call('HSET', lease, 'dead', '1')
lease_written(index, lease, incarnation)
count_a_change()
return {changes, 1}
"""
