package ratelimit

import (
	"errors"
	"strconv"

	"edge/cachestore/redis/counter"
)

// script is rule.go in Lua, for all policies of a request in one step. Numbers are
// floats there: products of two are compared in parts, and all else stays below 2^53.
//
// A value is the four numbers of a state. It has a time to live, and what cannot be
// read is as good as none.
//
// KEYS: of each policy. ARGV: the mode, the time in microseconds or "" for that of
// the server, then for each key its rule (rule.text). The reply has six numbers for
// each: the time, the verdict, and the state.
const script = `
local mode, now, slack = ARGV[1], tonumber(ARGV[2]), 1
if now then
	slack = 3600000 -- keys expire by the server's clock, which another's may lag behind
else
	local time = redis.call('TIME')
	now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local refused, fits, taken = 1, 2, 3

local function number(n) return string.format('%.0f', n) end

-- a * b, of which the first is below 2^30 and the second below 2^45, as two numbers.
local function product(a, b)
	local high = math.floor(b / 8388608)
	local low = a * (b - high * 8388608)
	local carry = math.floor(low / 8388608)
	return a * high + carry, low - carry * 8388608
end

local function load(key)
	local value = redis.pcall('GET', key)
	local at, used, before, till
	if type(value) == 'string' then
		at, used, before, till = string.match(value, '^(%d+) (%d+) (%d+) (%d+)$')
	end
	return {at = tonumber(at or 0), used = tonumber(used or 0), before = tonumber(before or 0), till = tonumber(till or 0)}
end

local function settle(r, s)
	s.till = math.min(s.till, now + r.block)
	if s.till <= now then s.till = 0 end
	if r.algorithm == 0 then
		s.before, s.used = 0, math.min(s.used, r.limit - 1)
		local ahead = s.at - now
		if ahead < 0 then
			s.at, s.used = now, 0
		elseif ahead > 2 * r.whole or ahead == 2 * r.whole and s.used > r.part then
			s.at, s.used = now + 2 * r.whole, r.part
		end
		return
	end
	local window = math.floor(now / r.period)
	if s.at == window - 1 then
		s.used, s.before = 0, s.used
	elseif s.at < window then
		s.used, s.before = 0, 0
	end
	s.at = window
	if r.algorithm == 2 then s.before = 0 end
	local most = math.min(2 * r.limit, 1000000000)
	s.used, s.before = math.min(s.used, most), math.min(s.before, most)
end

local function has_room(r, s)
	if s.till ~= 0 then return false end
	if r.algorithm == 0 then
		local whole, part = s.at + r.cost_whole - r.whole, s.used + r.cost_part - r.part
		if part < 0 then
			whole, part = whole - 1, part + r.limit
		elseif part >= r.limit then
			whole, part = whole + 1, part - r.limit
		end
		return whole < now or whole == now and part == 0
	end
	local room = r.limit - s.used - r.n
	if room < 0 then return false end
	local a, b = product(s.before, r.period - (now - s.at * r.period))
	local c, d = product(room, r.period)
	return a < c or a == c and b <= d
end

local function take(r, s)
	if r.algorithm ~= 0 then
		s.used = s.used + r.n
		return
	end
	s.at, s.used = s.at + r.cost_whole, s.used + r.cost_part
	if s.used >= r.limit then s.at, s.used = s.at + 1, s.used - r.limit end
end

local function give(r, s)
	if r.algorithm == 0 then
		if r.taken_at < now then return end
		s.at, s.used = s.at - r.cost_whole, s.used - r.cost_part
		if s.used < 0 then s.at, s.used = s.at - 1, s.used + r.limit end
	elseif r.taken_at == s.at then
		s.used = math.max(0, s.used - r.n)
	elseif r.taken_at == s.at - 1 then
		s.before = math.max(0, s.before - r.n)
	end
end

local function save(key, r, s)
	local expires
	if r.algorithm == 0 then
		expires = s.at + 1
	else
		expires = (s.at + 3 - r.algorithm) * r.period
	end
	local left = math.max(expires, s.till) - now
	redis.call('SET', key, number(s.at) .. ' ' .. number(s.used) .. ' ' .. number(s.before) .. ' ' .. number(s.till),
		'PX', number(math.max(0, math.ceil(left / 1000)) + slack))
end

local items, open = {}, mode == 'take'
for i, key in ipairs(KEYS) do
	local f = {}
	for field in string.gmatch(ARGV[i + 2], '%d+') do f[#f + 1] = tonumber(field) end
	local r = {algorithm = f[1], dry = f[2] == 1, n = f[3], limit = f[4], period = f[5], block = f[6],
		cost_whole = f[7], cost_part = f[8], whole = f[9], part = f[10], taken_at = f[11]}
	if mode == 'reset' then redis.call('DEL', key) end
	local s = load(key)
	local at, till = s.at, s.till
	settle(r, s)
	local changed = s.at < at or s.till ~= 0 and s.till < till
	local item = {rule = r, state = s, verdict = fits}
	if not has_room(r, s) then
		item.verdict = refused
		open = open and r.dry
		if (mode == 'take' or mode == 'ask') and r.block > 0 and s.till == 0 then
			s.till = now + r.block
			changed = true
		end
		if changed then save(key, r, s) end
	end
	items[i] = item
end
local reply = {}
for i, key in ipairs(KEYS) do
	local item, s = items[i], items[i].state
	if mode == 'give' then
		give(item.rule, s)
		save(key, item.rule, s)
	elseif mode == 'owe' then
		take(item.rule, s)
		settle(item.rule, s) -- no more than may be owed
		save(key, item.rule, s)
	elseif item.verdict == fits and open then
		item.verdict = taken
		take(item.rule, s)
		save(key, item.rule, s)
	end
	for _, n in ipairs({now, item.verdict, s.at, s.used, s.before, s.till}) do reply[#reply + 1] = n end
end
return reply
`

// Modes of the script.
const (
	modeTake  = "take"  // if all have room
	modeAsk   = "ask"   // take nothing
	modePeek  = "peek"  // take nothing, and block nobody either
	modeGive  = "give"  // give back what was taken
	modeOwe   = "owe"   // take whether there is room or not
	modeReset = "reset" // forget
)

// errReply says that Redis has answered with what cannot be.
var errReply = errors.New("ratelimit: Redis answered what cannot be understood")

func understood(reply [counter.Numbers]int64) bool {
	v := verdict(reply[1])
	return (v == refused || v == fits || v == taken) && reply[0] > 0 && min(reply[2], reply[3], reply[4], reply[5]) >= 0
}

// text is the rule for n units as the script reads it.
func (r *rule) text(n int64, dry bool) string {
	var cost span
	if r.algorithm == TokenBucket {
		cost = r.cost(n)
	}
	skips := int64(0)
	if dry {
		skips = 1
	}
	text := make([]byte, 0, 96)
	for _, f := range [...]int64{
		int64(r.algorithm), skips, n, r.limit, r.period, r.block, cost.whole, cost.part, r.span.whole, r.span.part,
	} {
		text = append(strconv.AppendInt(text, f, 10), ' ')
	}
	return string(text)
}
