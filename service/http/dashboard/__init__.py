"""The pages for CRM staff, rendered on the server."""

from fastapi import FastAPI

from service.http.dashboard import (
    customer,
    customers,
    editor,
    operations,
    retention,
    settings,
    sign_in,
    view,
)


def install(app: FastAPI) -> None:
    """Add the pages, and have problems shown as pages to whoever looks at pages."""
    app.include_router(view.router)
    app.include_router(customers.router)
    app.include_router(editor.router)  # before /customers/{id}, which would take `new` for an id
    app.include_router(customer.router)
    app.include_router(retention.router)
    app.include_router(settings.router)
    app.include_router(operations.router)
    app.include_router(sign_in.router)
    app.state.problem_page = view.problem_page
