// A proxy on loopback that writes down what passes between a client and a twin.
import http from 'node:http';

/// Starts a proxy before `target`; gives its address, what has passed, and how to end it.
export function between(target) {
  const exchanges = [];
  const server = http.createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', async () => {
      const body = Buffer.concat(parts);
      const headers = { ...request.headers };
      for (const name of ['host', 'connection', 'content-length', 'accept-encoding', 'transfer-encoding']) delete headers[name];
      const answer = await fetch(target + request.url, {
        method: request.method,
        headers,
        body: body.length > 0 ? body : undefined,
      });
      const text = await answer.text();
      exchanges.push({
        method: request.method,
        path: request.url,
        headers,
        body: body.length > 0 ? JSON.parse(body.toString()) : null,
        status: answer.status,
        answer: text.length > 0 ? JSON.parse(text) : null,
      });
      const given = {};
      answer.headers.forEach((value, name) => {
        if (!['content-length', 'connection', 'transfer-encoding', 'content-encoding'].includes(name)) given[name] = value;
      });
      response.writeHead(answer.status, given);
      response.end(text);
    });
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = `http://127.0.0.1:${server.address().port}`;
      resolve({ address, exchanges, end: () => server.close() });
    });
  });
}
