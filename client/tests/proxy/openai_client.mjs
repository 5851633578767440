// The package `openai` as it is, against `cloister proxy`: what it is given and what it makes of errors.

import assert from "node:assert/strict";

import OpenAI from "openai";
import { VERSION } from "openai/version";

const [baseURL, refusing] = process.argv.slice(2);
const hello = [{ role: "user", content: "good day" }];

const client = (apiKey = "secret", url = baseURL) => new OpenAI({ apiKey, baseURL: url, timeout: 60_000 });
const stream = (content) =>
  client().chat.completions.create({ model: "any", stream: true, messages: [{ role: "user", content }] });

const tests = {
  async whole() {
    const answer = await client().chat.completions.create({ model: "any", messages: hello });
    assert.equal(answer.choices[0].message.content, "You said: good day");
    assert.equal(answer.usage.total_tokens, 7);
  },

  async streamed() {
    const words = [];
    for await (const chunk of await stream("good day")) {
      words.push(chunk.choices[0].delta.content ?? "");
    }
    assert.equal(words.join(""), "You said: good day");
  },

  async models() {
    const ids = [];
    for await (const model of client().models.list()) {
      ids.push(model.id);
    }
    assert.deepEqual(ids, ["fake"]);
    await assert.rejects(client().models.retrieve("other"), OpenAI.NotFoundError);
  },

  async errors() {
    const wrong = client().chat.completions.create({ model: "any", messages: [] });
    await assert.rejects(wrong, { status: 422, param: "messages", code: "invalid-field" });
    await assert.rejects(client("other").models.list(), { status: 401, code: "invalid_api_key" });
    await assert.rejects(async () => {
      for await (const _ of await stream("cut")) {
        // Nothing to do with it.
      }
    }, /cut short/);
  },

  async refused() {
    const asked = client("secret", refusing).chat.completions.create({ model: "any", messages: hello });
    await assert.rejects(asked, { status: 502, code: "nonce", type: "attestation_error" });
  },

  async cancelled() {
    const events = await stream("forever");
    for await (const _ of events) {
      break;
    }
    events.controller.abort();
  },
};

for (const [name, test] of Object.entries(tests)) {
  await test();
  console.log(`openai ${VERSION}: ${name}`);
}
console.log("all as expected");
