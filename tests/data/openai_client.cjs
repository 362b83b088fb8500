// What the official npm client sees of a server: one JSON object, printed.
// Usage: NODE_PATH=.../node_modules node openai_client.cjs BASE_URL MODEL
const OpenAI = require("openai");
const { APIUserAbortError, BadRequestError } = OpenAI;

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any" });
const messages = [{ role: "user", content: "Hi" }];
const request = { model, messages, max_completion_tokens: 20, temperature: 0 };

async function plain() {
  const { data, response, request_id } = await client.chat.completions.create(request).withResponse();
  const choice = data.choices[0];
  return {
    text: choice.message.content,
    finish_reason: choice.finish_reason,
    usage: data.usage,
    request_id,
    header: response.headers.get("x-request-id"),
  };
}

async function streamed() {
  const stream = await client.chat.completions.create({
    ...request,
    stream: true,
    stream_options: { include_usage: true },
  });
  const pieces = [];
  let usage, finish_reason;
  for await (const chunk of stream) {
    if (chunk.choices.length) {
      pieces.push(chunk.choices[0].delta.content ?? "");
      finish_reason = chunk.choices[0].finish_reason ?? finish_reason;
    }
    usage = chunk.usage ?? usage;
  }
  return { text: pieces.join(""), pieces: pieces.length, finish_reason, usage };
}

async function helper() {
  const deltas = [];
  const stream = client.chat.completions.stream(request).on("content", (delta) => deltas.push(delta));
  const completion = await stream.finalChatCompletion();
  return {
    text: completion.choices[0].message.content,
    finish_reason: completion.choices[0].finish_reason,
    deltas: deltas.join(""),
  };
}

async function refused() {
  try {
    await client.chat.completions.create({ ...request, temperature: 3 });
  } catch (error) {
    const { status, param, code, type, message, requestID } = error;
    return { right_class: error instanceof BadRequestError, status, param, code, type, message, requestID };
  }
}

async function aborted() {
  const controller = new AbortController();
  const stream = await client.chat.completions.create(
    { ...request, messages: [{ role: "user", content: "slow" }], max_completion_tokens: 8000, stream: true },
    { signal: controller.signal },
  );
  let chunks = 0;
  let error_name = null;
  try {
    for await (const chunk of stream) {
      if (++chunks === 5) controller.abort();
    }
  } catch (error) {
    error_name = error instanceof APIUserAbortError ? "APIUserAbortError" : String(error);
  }
  const health = baseURL.replace("/v1", "/health");
  let running = 1;
  for (let tries = 0; running && tries < 100; tries++) {
    await new Promise((wake) => setTimeout(wake, 50));
    running = (await (await fetch(health)).json()).running;
  }
  return { chunks, error_name, running };
}

(async () => {
  const seen = {};
  for (const part of [plain, streamed, helper, refused, aborted]) seen[part.name] = await part();
  seen.models = (await client.models.list()).data.map((each) => each.id);
  console.log(JSON.stringify(seen));
})();
