package redis

import goredis "github.com/redis/go-redis/v9"

// The scripts are what makes a write one atomic step. All keys that they touch are
// declared and lie in one slot of a cluster.
//
// Two traps of Lua in Redis: strings compare by the server's locale, so that stamps
// are compared as numbers; and numbers are floats, so that this is done in parts.
const prologue = `
local primary = KEYS[1]
local hash, current = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function hex(bytes)
	return (string.gsub(bytes, '.', function(c) return string.format('%02x', string.byte(c)) end))
end
local function after(a, b, from)
	for i = from, 64, 8 do
		local x, y = tonumber(string.sub(a, i, i + 7), 16), tonumber(string.sub(b, i, i + 7), 16)
		if x ~= y then return x > y end
	end
	return false
end
-- Whether what is stored with stamp a stays when one with stamp b comes.
local function newer(a, b)
	local mine, other = string.sub(a, 1, 32), string.sub(b, 1, 32)
	if mine == other then return after(a, b, 33) end
	if mine == current then return true end
	if other == current then return false end
	return after(a, b, 49)
end

-- Returns the stamp of an entry, or an index, or neither.
local function load()
	local head = redis.pcall('GETRANGE', primary, 0, 47)
	if type(head) ~= 'string' then
		redis.call('UNLINK', primary) -- it is of another type, and not ours
		return nil, nil
	end
	if #head == 48 and string.sub(head, 1, 4) == 'EDG\1' then return hex(string.sub(head, 17, 48)), nil end
	if string.sub(head, 1, 4) ~= 'EDX\1' then return nil, nil end
	local whole = redis.call('GET', primary)
	local body = string.sub(whole, 45)
	if string.sub(whole, 5, 44) ~= redis.sha1hex(body) or string.sub(body, 1, 67) ~= 'k ' .. hash .. '\n' then return nil, nil end
	local index = {lists = {}, members = {}, asked = {}}
	for kind, line in string.gmatch(body, '(%l) ([^\n]*)\n') do
		local f = {}
		for field in string.gmatch(line, '[^ ]+') do f[#f + 1] = field end
		if kind == 'l' then
			table.insert(index.lists, {stamp = f[1], names = f[2]})
		elseif kind == 'm' and tonumber(f[3]) > now then
			table.insert(index.members, {variant = f[1], stamp = f[2], expires = tonumber(f[3]), put = tonumber(f[4]), names = f[5]})
		elseif kind == 'a' then
			table.insert(index.asked, f[1])
		end
	end
	return nil, index
end

-- Writes the index, without lists that no variant is left of. One without variants
-- goes.
local function save(index)
	local lines, used, expires = {'k ' .. hash}, {}, 0
	for _, m in ipairs(index.members) do
		used[m.names] = true
		expires = math.max(expires, m.expires)
	end
	for _, l in ipairs(index.lists) do
		if used[l.names] then lines[#lines + 1] = 'l ' .. l.stamp .. ' ' .. l.names end
	end
	for _, m in ipairs(index.members) do
		lines[#lines + 1] = string.format('m %s %s %.0f %.0f %s', m.variant, m.stamp, m.expires, m.put, m.names)
	end
	for _, a in ipairs(index.asked) do lines[#lines + 1] = 'a ' .. a end
	if #index.members == 0 then
		redis.call('UNLINK', primary)
		return
	end
	local body = table.concat(lines, '\n') .. '\n'
	redis.call('SET', primary, 'EDX\1' .. redis.sha1hex(body) .. body, 'PX', string.format('%.0f', expires - now))
end

local function find(list, field, value)
	for i, item in ipairs(list) do
		if item[field] == value then return i end
	end
end
`

// KEYS: primary slot. ARGV: hash of the key, current generation, stamp, life in
// milliseconds or 0 when there is none left, value. The reply is what became of it,
// and the variants that were replaced.
const putPlain = `
local stamp, life, value = ARGV[3], ARGV[4], ARGV[5]
local stored, index = load()
if stored and newer(stored, stamp) then return {'older'} end
local reply = {'stored'}
for _, m in ipairs(index and index.members or {}) do
	if newer(m.stamp, stamp) then return {'older'} end
	reply[#reply + 1] = m.variant
end
if life == '0' then
	redis.call('UNLINK', primary)
else
	redis.call('SET', primary, value, 'PX', life)
end
return reply
`

// KEYS: primary slot, slot of the variant. ARGV as of putPlain, then the variant's
// hash, the names it varies on, bound on variants, on lists, and for how many
// milliseconds a variant must not have been put to be displaced.
const putVariant = `
local stamp, life, value, variant, names = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local maxVariants, maxLists, idle = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local stored, index = load()
if stored and newer(stored, stamp) then return {'older'} end
index = index or {lists = {}, members = {}, asked = {}}
local lists, members, asked = index.lists, index.members, index.asked
local at = find(members, 'variant', variant)
if at and newer(members[at].stamp, stamp) then return {'older'} end

if life == '0' then
	if at then table.remove(members, at) end
	redis.call('UNLINK', KEYS[2])
	save(index)
	return {'stored'}
end

local gone = {}
if not at and #members >= maxVariants then
	local oldest = 1
	for i, m in ipairs(members) do
		if m.put < members[oldest].put then oldest = i end
	end
	local again
	for i, a in ipairs(asked) do
		if a == variant then again = i end
	end
	if not again or now - members[oldest].put < idle then
		if not again then
			table.insert(asked, variant)
			if #asked > maxVariants then table.remove(asked, 1) end
		end
		save(index)
		return {'variants'}
	end
	table.remove(asked, again)
	gone[#gone + 1] = members[oldest].variant
	table.remove(members, oldest)
end

-- Lists stand in the order of their newest entries.
local known = find(lists, 'names', names)
if not known or not newer(lists[known].stamp, stamp) then
	if known then table.remove(lists, known) end
	local place = 1
	while lists[place] and newer(lists[place].stamp, stamp) do place = place + 1 end
	if place > maxLists then return {'older'} end
	table.insert(lists, place, {stamp = stamp, names = names})
	if #lists > maxLists then
		local last = table.remove(lists)
		for i = #members, 1, -1 do
			if members[i].names == last.names and members[i].variant ~= variant then
				gone[#gone + 1] = members[i].variant
				table.remove(members, i)
			end
		end
	end
end

local member = {variant = variant, stamp = stamp, expires = now + tonumber(life), put = now, names = names}
at = find(members, 'variant', variant)
if at then members[at] = member else table.insert(members, member) end
redis.call('SET', KEYS[2], value, 'PX', life)
save(index)
return {'stored', unpack(gone)}
`

// KEYS: primary slot, and that of the variant if it is one. ARGV: hash of the key,
// current generation, the end of the stamp, the variant's hash or "".
const deleteEntry = `
local ending, variant = ARGV[3], ARGV[4]
local stored, index = load()
if variant == '' then
	if stored and string.sub(stored, -#ending) == ending then redis.call('UNLINK', primary) end
	return 0
end
local at = index and find(index.members, 'variant', variant)
if at and string.sub(index.members[at].stamp, -#ending) == ending then
	table.remove(index.members, at)
	redis.call('UNLINK', KEYS[2])
	save(index)
end
return 0
`

// KEYS: primary slot, then those of variants that were replaced. ARGV: hash of the
// key, current generation, then the variants' hashes. Those that have come back
// meanwhile stay.
const sweepVariants = `
local _, index = load()
for i = 2, #KEYS do
	if not index or not find(index.members, 'variant', ARGV[i + 1]) then redis.call('UNLINK', KEYS[i]) end
end
return 0
`

// KEYS: any slot. ARGV: SHA-1 of the damaged value in it.
const deleteDamaged = `
local value = redis.pcall('GET', KEYS[1])
if type(value) == 'string' and redis.sha1hex(value) == ARGV[1] then redis.call('UNLINK', KEYS[1]) end
return 0
`

type scripts struct{ putPlain, putVariant, deleteEntry, sweepVariants, deleteDamaged *goredis.Script }

func newScripts() scripts {
	return scripts{
		putPlain:      goredis.NewScript(prologue + putPlain),
		putVariant:    goredis.NewScript(prologue + putVariant),
		deleteEntry:   goredis.NewScript(prologue + deleteEntry),
		sweepVariants: goredis.NewScript(prologue + sweepVariants),
		deleteDamaged: goredis.NewScript(deleteDamaged),
	}
}
