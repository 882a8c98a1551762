"""Every request passes through these, from the outside in. `app` puts them together.

`request_spans` (the trace), `request_log` (id, safe headers, errors, log line), `time_limits` (how
slowly a client may read), `input_limits` (address and headers), the guard of `service.http.auth`,
`input_limits` again (the body), `time_limits` again (time until the answer begins).
"""
