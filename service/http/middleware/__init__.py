"""Every request passes through these, from the outside in. `app` puts them together.

`request_spans` (the trace), `request_log` (id, safe headers, errors, log line), the guard of
`service.http.auth`, `request_limits` (size of the body, time until the answer begins).
"""
