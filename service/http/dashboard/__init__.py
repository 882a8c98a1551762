"""The pages for CRM staff, rendered on the server."""

from fastapi import FastAPI

from service.http.dashboard import (
    assign_page,
    bulk_segment_page,
    bulk_tag_page,
    customer_editor,
    dead_letter_page,
    duplicates_page,
    endpoint_page,
    identifier_page,
    imports_page,
    insight_page,
    list_page,
    merge_page,
    operations_page,
    own_fields_page,
    own_filters_page,
    profile_page,
    render,
    retention_page,
    saved_views_page,
    settings_page,
    shop_request_page,
    sign_in_page,
    tags_page,
    view_page,
)


def install(app: FastAPI) -> None:
    """Add the pages to an app."""
    app.include_router(render.router)
    app.include_router(list_page.router)
    # Before the profile page, whose /customers/{id} would take `new` for an id.
    app.include_router(customer_editor.router)
    app.include_router(profile_page.router)
    app.include_router(tags_page.router)
    app.include_router(saved_views_page.router)
    app.include_router(bulk_tag_page.router)
    app.include_router(merge_page.router)
    app.include_router(identifier_page.router)
    app.include_router(duplicates_page.router)
    app.include_router(retention_page.router)
    app.include_router(insight_page.router)
    app.include_router(settings_page.router)
    app.include_router(own_fields_page.router)
    app.include_router(own_filters_page.router)
    app.include_router(imports_page.router)
    app.include_router(operations_page.router)
    app.include_router(assign_page.router)
    app.include_router(dead_letter_page.router)
    app.include_router(endpoint_page.router)
    app.include_router(shop_request_page.router)
    app.include_router(sign_in_page.router)
    app.include_router(view_page.router)
    app.include_router(bulk_segment_page.router)
