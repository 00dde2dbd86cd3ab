// An ordinary Node `ws` server. /ws/late attaches its message listener only after it has loaded something,
// which is the usual way to lose what a client says first.
'use strict';

const http = require('node:http');
const { setTimeout: wait } = require('node:timers/promises');
const { WebSocketServer } = require('ws');

const server = http.createServer((request, response) => {
  response.setHeader('content-type', 'application/json');
  response.end('{"heartbeat_s":25}');
});

const sockets = new WebSocketServer({
  noServer: true,
  perMessageDeflate: true,
  maxPayload: 64 * 1024 * 1024,
  handleProtocols: (offered) => [...offered].at(-1) ?? false,
});

const echo = (ws) => ws.on('message', (data, binary) => ws.send(data, { binary }));

const endpoints = {
  '/ws/late': async (ws, query) => {
    await wait(Number(query.get('wait') ?? 40)); // loads the user's rooms
    echo(ws);
    ws.send(JSON.stringify({ type: 'connection_established' }));
  },
  '/ws/announce': async (ws) => {
    await wait(50);
    echo(ws);
    ws.send(JSON.stringify({ type: 'connection_established' }));
  },
  '/ws/greet': (ws, query) => {
    for (let number = 0; number < Number(query.get('count') ?? 3); number += 1) ws.send(`push ${number}`);
    echo(ws);
  },
  '/ws/close': (ws, query) =>
    ws.close(Number(query.get('code') ?? 4401), query.get('reason') ?? 'token expired'),
};

server.on('upgrade', async (request, socket, head) => {
  socket.on('error', (error) => console.error('upgrade error', error.message));
  const url = new URL(request.url, 'http://localhost');
  if (url.pathname === '/ws/reject') {
    socket.end('HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 7\r\nConnection: close\r\n\r\nnot you');
    return;
  }
  if (url.pathname === '/ws/slow') await wait(Number(url.searchParams.get('wait') ?? 0.3) * 1000);
  sockets.handleUpgrade(request, socket, head, (ws) => {
    ws.on('error', (error) => console.error('socket error', error.message));
    (endpoints[url.pathname] ?? echo)(ws, url.searchParams);
  });
});

server.listen(Number(process.argv[2]), '127.0.0.1');
