@app.get("/in-app")
async def in_app() -> str:
    return "in app.py"


@app.middleware("http")
async def count_letters(request: Request, call_next: Any) -> Any:
    response = await call_next(request)
    response.headers["x-letters"] = str(len(request.url.path))
    return response


@app.exception_handler(OutOfStock)
async def out_of_stock(_: Request, error: OutOfStock) -> Response:
    return Response(f"sorry: {error}", 418, media_type="text/plain")
