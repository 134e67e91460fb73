"""Pages of other sites: those that may ask can read what they are answered, in a browser too."""

import pytest
from starlette.testclient import TestClient

from services.serve.http.gate import service_app


def client() -> TestClient:
    app = service_app("teacher", "Example", "For a test.")

    @app.get("/v1/fine")
    @app.post("/v1/fine")
    async def fine() -> dict[str, int]:
        return {"answer": 42}

    return TestClient(app, base_url="http://localhost", client=("127.0.0.1", 5000))


@pytest.mark.parametrize("tokens", ["", "mine"])
def test_a_page_that_may_ask_may_read_the_answer(monkeypatch: pytest.MonkeyPatch, tokens: str) -> None:
    site = "http://localhost:3000"
    monkeypatch.setenv("RLAD_ALLOWED_ORIGINS", f"https://other.example, {site}/")
    monkeypatch.setenv("RLAD_API_TOKENS", tokens)
    ask = {"Origin": site, "Access-Control-Request-Method": "POST"}
    may = client().options("/v1/fine", headers=ask)  # a browser sends no token with it
    assert may.status_code == 204
    assert may.headers["access-control-allow-origin"] == site
    assert "POST" in may.headers["access-control-allow-methods"]
    assert "Authorization, Content-Encoding, Content-Type" in may.headers["access-control-allow-headers"]
    for own, answered in (
        ("authorization,content-type,x-stainless-os", "authorization,content-type,x-stainless-os"),
        ("a b", may.headers["access-control-allow-headers"]),
    ):
        asked = client().options("/v1/fine", headers={**ask, "Access-Control-Request-Headers": own})
        assert asked.headers["access-control-allow-headers"] == answered
    told = client().get("/v1/fine", headers={"Origin": site, "Authorization": "Bearer mine"})
    assert (told.status_code, told.headers["access-control-allow-origin"]) == (200, site)
    assert told.headers["vary"] == "Origin"
    others = client().options("/v1/fine", headers={**ask, "Origin": "https://evil.example"})
    assert others.status_code == (401 if tokens else 403)
    assert "access-control-allow-origin" not in others.headers
    refused = client().get("/v1/fine", headers={"Origin": site, "Authorization": "Bearer other"})
    assert refused.headers["access-control-allow-origin"] == site
    assert refused.status_code == (401 if tokens else 200)
