// A published description (OpenAPI 3.0), and what is wrong with an exchange by it.
import fs from 'node:fs';
import Ajv from 'ajv';
import formats from 'ajv-formats';

/// OpenAPI 3.0 says `nullable` and has keywords of its own; JSON Schema says it otherwise.
function schema(node) {
  if (Array.isArray(node)) return node.map(schema);
  if (node === null || typeof node !== 'object') return node;
  const out = {};
  for (const [name, value] of Object.entries(node)) {
    if (['nullable', 'example', 'discriminator', 'xml', 'externalDocs', 'readOnly', 'writeOnly'].includes(name)) continue;
    if (name.startsWith('x-')) continue;
    out[name] = name === 'properties' ? Object.fromEntries(Object.entries(value).map(([key, member]) => [key, schema(member)])) : schema(value);
  }
  if (node.nullable && typeof out.type === 'string') out.type = [out.type, 'null'];
  return out;
}

export class Description {
  constructor(file, base) {
    this.document = JSON.parse(fs.readFileSync(file, 'utf8'));
    this.base = base;
    this.ajv = new Ajv({ strict: false, allErrors: true });
    formats(this.ajv);
  }

  /// The operation of a request, by method and path.
  operation(method, path) {
    const plain = path.split('?')[0];
    if (!plain.startsWith(this.base)) return null;
    const parts = plain.slice(this.base.length).split('/');
    for (const [template, operations] of Object.entries(this.document.paths)) {
      const wanted = template.split('/');
      const fits = wanted.length === parts.length && wanted.every((part, n) => part.startsWith('{') || part === parts[n]);
      const operation = fits && operations[method.toLowerCase()];
      if (operation) return operation;
    }
    return null;
  }

  /// Everything in which an exchange differs from the description, in words.
  differences({ method, path, body, status, answer }) {
    const operation = this.operation(method, path);
    if (!operation) return [`${method} ${path}: the description has no such operation`];
    const found = [];
    const known = new Set((operation.parameters ?? []).filter((it) => it.in === 'query').map((it) => it.name));
    for (const name of new URL(path, 'http://twin').searchParams.keys()) {
      if (!known.has(name)) found.push(`query ${name}: not in the description`);
    }
    const check = (what, media, value) => {
      if (!media?.schema || value === null) return;
      const validate = this.ajv.compile({ ...schema(media.schema), components: schema(this.document.components ?? {}) });
      if (!validate(value)) found.push(...validate.errors.map((error) => `${what}${error.instancePath}: ${error.message}`));
    };
    check('request', operation.requestBody?.content?.['application/json'], body);
    const described = operation.responses[String(status)] ?? operation.responses.default;
    check('answer', described?.content?.['application/json'] ?? described?.content?.['application/problem+json'], answer);
    return [...new Set(found)].map((words) => `${method} ${path}: ${words}`);
  }
}
