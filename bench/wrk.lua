-- wrk's side of bench/run.py: `wrk -s wrk.lua URL -- METHOD BODY_BYTES` sends that request (GET without arguments)
-- and ends with one line of JSON. Defines neither request() nor response(): those would cost the client its speed.

function init(args)
  if args[1] then
    wrk.method = args[1]
    wrk.body = string.rep("x", tonumber(args[2]))
    wrk.headers["Content-Type"] = "application/octet-stream"
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "duration_us": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, "max_us": %d, '
      .. '"bad_status": %d, "connect_errors": %d, "read_errors": %d, "write_errors": %d, "timeouts": %d}\n',
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
