package stream

import "github.com/redis/go-redis/v9"

// The keys, all in one slot of a cluster:
//
//	PREFIX{purge}:log    the stream. Ids are 1-0, 2-0, 3-0 ... Fields of a record:
//	                     i its id, c its chain, t its time in microseconds,
//	                     w where it was first written, p the payload
//	PREFIX{purge}:head   hash. nonce: drawn when the log began or was found damaged;
//	                     server: who was asked last; last: position of the last
//	                     record; born, start: when this generation was first seen,
//	                     and the last position then
//	PREFIX{purge}:nodes  hash. Under each node's name its row, as it was written, with
//	                     the time in front; under "" the nonce, so that a lost table
//	                     is found out
//
// None of them has a time to live.
//
// A chain is a hash of the record's id and of the chain before it. So a record of
// the same position and chain as one that was read before proves that all before it
// is the same too.
//
// Each script begins by looking at the log as a whole. The run and replication ids
// of the server that is asked tell of a restart and of a failover, which the keys
// cannot: a replica has them too. The nonce tells of a log that was emptied or set
// back under a server that kept running.
//
// The scripts are allowed to write when Redis is out of memory, since what they
// write is bounded, and a purge that is refused would be worse. That takes the
// header of Redis 7.0.
const prologue = `#!lua flags=allow-oom
local log, head, nodes = KEYS[1], KEYS[2], KEYS[3]
local fresh = ARGV[1]

local function info(section, name)
	return string.match(redis.call('INFO', section), '\n' .. name .. ':([^\r\n]*)')
end
local function number(n) return string.format('%.0f', n) end
local function fields(record)
	local f = {}
	for i = 1, #record[2], 2 do f[record[2][i]] = record[2][i + 1] end
	return f
end
local function position(record) return tonumber(string.match(record[1], '^(%d+)-')) end
local function at(p)
	return redis.call('XRANGE', log, number(p) .. '-0', number(p) .. '-0')[1]
end

if info('replication', 'role') ~= 'master' then
	return redis.error_reply('NOTMASTER the log of purges is asked for at a replica')
end
local server = info('server', 'run_id') .. ':' .. info('replication', 'master_replid')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local first, last, chain = 0, 0, ''
local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
if newest then
	last, chain = position(newest), fields(newest).c or ''
	first = position(redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1])
end

local known = redis.call('HMGET', head, 'nonce', 'server', 'last', 'born', 'start')
local nonce, born, start = known[1], known[4], known[5]
local function renew(with)
	nonce, born, start = with, number(now), number(last)
	redis.call('HSET', head, 'nonce', nonce, 'server', server, 'last', number(last), 'born', born, 'start', start)
	redis.call('HSET', nodes, '', nonce)
end
if not nonce or known[3] ~= number(last) or redis.call('HGET', nodes, '') ~= nonce then
	-- The next record must follow the last one that is there.
	if newest then redis.call('XSETID', log, newest[1]) else redis.call('DEL', log) end
	redis.call('DEL', nodes)
	renew(fresh)
elseif known[2] ~= server then
	renew(nonce)
end
local function state()
	return {server .. ':' .. nonce, number(now), born, start, number(first), number(last), chain}
end
local function table_of_nodes()
	local rows = redis.call('HGETALL', nodes)
	local kept = {}
	for i = 1, #rows, 2 do
		local seen, fence = string.match(rows[i + 1], '^(%d+) (%d+) ')
		if seen and now - tonumber(seen) > 3600000000 + 2 * tonumber(fence) then
			redis.call('HDEL', nodes, rows[i])
		elseif rows[i] ~= '' then
			kept[#kept + 1] = rows[i]
			kept[#kept + 1] = rows[i + 1]
		end
	end
	return kept
end
`

// ARGV: nonce, node or "", its row after the time, identity or "" at which its first
// candidate was read, limit, 1 for the table, number of candidates, each as position
// and chain, then rows to restore, each as node and row.
const syncBody = `
local node, row, identity, limit = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local candidates, next_arg = tonumber(ARGV[7]), 8
local from, matched = math.max(first - 1, 0), 0
for i = 1, candidates do
	local p, c = tonumber(ARGV[next_arg]), ARGV[next_arg + 1]
	next_arg = next_arg + 2
	local there = p <= last and p >= first and at(p)
	if matched == 0 and there and fields(there).c == c then
		from, matched = p, 1
	elseif i == 1 and identity == server .. ':' .. nonce then
		if p == first - 1 or p == 0 and last == 0 then
			from, matched = p, 1
		elseif p >= first then
			-- What the node has read there is there no more: the log was set back.
			redis.call('DEL', nodes)
			renew(fresh)
		end
	end
end
for i = next_arg, #ARGV, 2 do redis.call('HSETNX', nodes, ARGV[i], ARGV[i + 1]) end
if node ~= '' then redis.call('HSET', nodes, node, number(now) .. ' ' .. row) end

local records = {}
if limit ~= '0' then
	records = redis.call('XRANGE', log, number(from + 1) .. '-0', '+', 'COUNT', limit)
end
local rows = {}
if ARGV[6] == '1' then rows = table_of_nodes() end
return {state(), number(from), matched, records, rows}
`

// ARGV: nonce, identity or "" for any, position up to which the writer knows the
// log or "", bound, then four for each record: id, time or "", where it was first
// written or "", payload.
const appendBody = `
local identity, upto, bound = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local before = state()
if identity ~= '' and identity ~= before[1] then return {before, 'changed', {}, {}} end
local present = {}
if upto then
	if last - upto > 1000 then return {before, 'behind', {}, {}} end
	for _, record in ipairs(redis.call('XRANGE', log, number(upto + 1) .. '-0', '+')) do
		present[fields(record).i] = position(record)
	end
end
local positions = {}
for i = 5, #ARGV, 4 do
	local id, at, was = ARGV[i], ARGV[i + 1], ARGV[i + 2]
	if not present[id] then
		last = last + 1
		chain = string.sub(redis.sha1hex(chain .. id), 1, 32)
		if at == '' then at = number(now) end
		redis.call('XADD', log, 'MAXLEN', '~', bound, number(last) .. '-0', 'i', id, 'c', chain, 't', at, 'w', was, 'p', ARGV[i + 3])
		present[id] = last
	end
	positions[#positions + 1] = number(present[id])
end
redis.call('HSET', head, 'last', number(last))
if first == 0 then first = 1 end
return {state(), 'ok', positions, table_of_nodes()}
`

// ARGV: nonce, node, its row after the time.
const leaveBody = `
redis.call('HSET', nodes, ARGV[2], number(now) .. ' ' .. ARGV[3])
return 1
`

type scripts struct{ sync, append, leave *redis.Script }

func newScripts() scripts {
	return scripts{
		sync:   redis.NewScript(prologue + syncBody),
		append: redis.NewScript(prologue + appendBody),
		leave:  redis.NewScript(prologue + leaveBody),
	}
}
