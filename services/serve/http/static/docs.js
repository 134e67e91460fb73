// Fetches the OpenAPI document, with the token where one is wanted, and shows it. Every request that is tried on
// the page carries the token too.
"use strict";

const KEY = `rlad token ${location.pathname}`;
const form = document.getElementById("ask");
const authorization = () => {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
};

async function show() {
  const answer = await fetch("openapi.json", { headers: authorization() });
  if (answer.status === 401) {
    form.hidden = false;
    document.getElementById("why").textContent = sessionStorage.getItem(KEY) ? "That token is refused." : "";
    return;
  }
  form.hidden = true;
  const spec = await answer.json();
  document.title = spec.info.title;
  SwaggerUIBundle({
    spec,
    dom_id: "#page",
    deepLinking: true,
    validatorUrl: null,
    requestInterceptor: (request) => {
      request.headers = { ...authorization(), ...request.headers };
      return request;
    },
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, document.getElementById("token").value.trim());
  show();
});
show();
