"""Authentication and permissions, in the order in which a request meets them.

1. `caller` finds out who sends a request: from an API key, from a session cookie
   (`cookies`), or from the address until the first credential is made (`local_mode`).
2. `guard.Guard`, a middleware, calls it before the body is read. It limits how often one caller
   may send requests, and refuses changes that another site makes a browser send.
3. A route names the scope that it needs: routes of the API with `Reader`, `Writer`, `Exporter` or
   `Admin` of `guard`, pages with those of `dashboard.viewer`. For a browser's session, the same
   dependency also checks the CSRF token.

`service.http.credential_cache` remembers what the database says about credentials.
"""
