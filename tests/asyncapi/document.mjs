// docs/asyncapi.yaml as the official parser reads it, and the schemas that messages are held to.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";
import Ajv from "ajv";

export const root = new URL("../../", import.meta.url);
export const source = (path) => readFileSync(new URL(path, root), "utf8");

const { document, diagnostics } = await new Parser().parse(source("docs/asyncapi.yaml"));
/** What the parser has to say but that there is a newer AsyncAPI. */
export const faults = diagnostics
  .filter((fault) => fault.code !== "asyncapi-latest-version")
  .map((fault) => `${fault.path.join(".")}: ${fault.message}`);
if (!document) throw new Error(`docs/asyncapi.yaml cannot be read\n${faults.join("\n")}`);

export const version = document.info().version();

/** The same schema, but without room for fields that it does not have: those would not be described. */
function closed(schema) {
  if (Array.isArray(schema)) return schema.map(closed);
  if (schema === null || typeof schema !== "object") return schema;
  const copy = Object.fromEntries(
    Object.entries(schema)
      .filter(([key]) => !key.startsWith("x-parser-"))
      .map(([key, value]) => [key, closed(value)]),
  );
  // In a part of a oneOf that only says what is required there is nothing to close.
  if (copy.properties && copy.type === "object") copy.additionalProperties ??= false;
  return copy;
}

/** The fields of commands that the broker reads, by its source. */
export const fieldsRead = [...source("src/protocol/fields.rs").split("#[cfg(test)]")[0].matchAll(/b"([a-z_]+)"/g)]
  .map(([, name]) => name);

const ajv = new Ajv({ allErrors: true, strictTypes: false, strictRequired: false });
const compile = (schema) => ajv.compile(closed(schema));

function message(model) {
  const [validate, validateHeaders] = [
    compile(model.payload().json()),
    model.hasHeaders() ? compile(model.headers().json()) : undefined,
  ];
  return {
    id: model.id(),
    schema: model.payload().json(),
    examples: model.examples().all().map((example) => ({
      name: example.name() ?? "",
      payload: example.payload(),
      headers: example.headers(),
    })),
    /** What is wrong with a payload, and with the headers where a message has them. Nothing is undefined. */
    fault(payload, headers) {
      if (!validate(payload)) return ajv.errorsText(validate.errors);
      if (validateHeaders && !validateHeaders(headers)) return ajv.errorsText(validateHeaders.errors);
      return undefined;
    },
  };
}

const models = (list) => list.all().map(message);
/** Messages by their channel. */
export const channels = Object.fromEntries(
  document.channels().all().map((channel) => [channel.id(), models(channel.messages())]),
);
/** What clients ask for: its commands and all that may answer them. */
export const operations = document.operations().all()
  .filter((operation) => operation.isReceive())
  .map((operation) => ({
    id: operation.id(),
    commands: models(operation.messages()),
    answers: models(operation.reply().messages()),
  }));
/** What comes on a WebSocket without being asked for. */
export const notices = document.operations().all()
  .filter((operation) => operation.isSend() && operation.channels().all()[0].id() === "websocket")
  .flatMap((operation) => models(operation.messages()));

export const schemas = Object.fromEntries(
  document.components().schemas().all().map((schema) => [schema.id(), schema.json()]),
);
export const names = (id) => compile(schemas[id]);

const spoken = new Set();
/** The one of `allowed` that `payload` is; it fails where there is none, or more than one. */
export function kind(allowed, payload, headers) {
  const fits = allowed.filter((message) => message.fault(payload, headers) === undefined);
  if (fits.length !== 1) {
    const why = allowed.map((message) => `  ${message.id}: ${message.fault(payload, headers) ?? "it is one"}`);
    throw new Error(
      `${JSON.stringify({ ...headers, ...payload })} is ${fits.length} of the messages that may come here:\n${why.join("\n")}`,
    );
  }
  return fits[0].id;
}

/** As `kind`, of what the broker says; it counts as seen. */
export function heard(channel, allowed, payload, headers) {
  const id = kind(allowed, payload, headers);
  spoken.add(`${channel}.${id}`);
  return id;
}

/** Messages of the broker that have not been heard. */
export function unheard() {
  const commands = new Set(operations.flatMap(({ commands }) => commands.map(({ id }) => id)));
  return Object.entries(channels)
    .flatMap(([channel, messages]) => messages.map(({ id }) => [channel, id]))
    .filter(([channel, id]) => !(channel === "websocket" && commands.has(id)))
    .map((pair) => pair.join("."))
    .filter((name) => !spoken.has(name));
}
