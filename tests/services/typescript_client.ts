// What a TypeScript program does with the generated types: each service asked once, and its answer read.
import createClient from "openapi-fetch";
import type { paths as Rollout } from "./rollout.js";
import type { paths as Teacher } from "./teacher.js";
import type { paths as Verifier } from "./verifier.js";

const baseUrl = "http://127.0.0.1:8000";
const headers = { Authorization: "Bearer TOKEN" };

const teacher = createClient<Teacher>({ baseUrl, headers });
const scored = await teacher.POST("/v1/score", {
  body: { top_k: 2, sequences: [{ id: "a", prompt_token_ids: [1, 2], response_token_ids: [3] }] },
});
if (scored.data && typeof scored.data !== "string") {
  const sums: number[] = scored.data.results.map((result) => result.logprob_sum);
  console.log(scored.data.model, sums);
} else if (scored.error) {
  const why: string = scored.error.detail;
  console.log(why);
}

const rollouts = createClient<Rollout>({ baseUrl, headers });
const sampled = await rollouts.POST("/v1/rollouts", {
  body: { prompts: [{ prompt: "1 + 1 =" }], sampling: { group_size: 2, max_tokens: 8 } },
});
if (sampled.data && typeof sampled.data !== "string") {
  const texts: string[] = sampled.data.results.map((response) => response.text);
  console.log(texts);
}

const verifier = createClient<Verifier>({ baseUrl, headers });
const judged = await verifier.POST("/v1/verify", {
  body: { task: "math", gold: { answer: "5" }, responses: [{ response: "\\boxed{5}" }] },
});
if (judged.data && typeof judged.data !== "string") {
  const rewards: number[] = judged.data.results.map((verdict) => verdict.reward);
  console.log(rewards);
}
