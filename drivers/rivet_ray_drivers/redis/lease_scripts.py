"""The scripts of the leases of hosts; `scripts` puts its prelude before them."""

from __future__ import annotations

from rivet_ray.store import LEASE_KEPT

KEPT = f"""
-- A lease is no key that expires and so tells of a death: this only sweeps it, much later.
local LEASE_KEPT = {LEASE_KEPT:.0f}
"""

RENEW = r"""
-- KEYS: identity, lease.  ARGV: store, seen, beat, address.  Gives {changes, 1 if done}.
local lease = KEYS[2]
local beat, dead = fields(lease, 'beat', 'dead')
if dead or (not beat and tonumber(ARGV[3]) ~= 1) then
  return {tonumber(changes), 0}
end
if not beat or tonumber(ARGV[3]) > tonumber(beat) then
  redis.call('HSET', lease, 'v', FORMAT, 'beat', ARGV[3], 'address', ARGV[4])
  redis.call('EXPIRE', lease, LEASE_KEPT)
  count_a_change()
end
return {tonumber(changes), 1}
"""

MARK_DEAD = r"""
-- KEYS: identity, lease.  ARGV: store, seen, beat.  Gives {changes, 1 if done}.
local lease = KEYS[2]
local beat, dead = fields(lease, 'beat', 'dead')
if dead then
  return {tonumber(changes), 1}
end
if not beat or tonumber(beat) ~= tonumber(ARGV[3]) then
  return {tonumber(changes), 0}
end
redis.call('HSET', lease, 'dead', '1')
redis.call('EXPIRE', lease, LEASE_KEPT)
count_a_change()
return {changes, 1}
"""
