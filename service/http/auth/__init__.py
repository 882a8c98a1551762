"""Who may do what, in the order in which a request meets it.

1. `caller` finds out who asks, from an API key, a session's cookie (`session_cookies`) or, while
   no credential exists, from being on this machine (`local_mode`).
2. `guard.Guard`, a middleware, does so before anything else of a request is read. It limits how
   often one caller may ask, and refuses changes that another site makes a browser send.
3. A route names the scope that it needs: `Reader`, `Writer`, `Exporter` or `Admin` of `guard` in
   the API, those of `dashboard.viewer` on pages. For a browser's session, the same dependency
   also checks the CSRF token.

What the database says about credentials is remembered by `service.http.credential_cache`.
"""
