// An ordinary socket.io server: what a client says, it hears again. Beside it a plain WebSocket endpoint, /ws/echo.
'use strict';

const http = require('node:http');
const { Server } = require('socket.io');
const { WebSocketServer } = require('ws');

const server = http.createServer((request, response) => response.end('up'));

const io = new Server(server);
io.on('connection', (socket) => socket.on('say', (text) => socket.emit('said', text)));

const sockets = new WebSocketServer({ noServer: true });
sockets.on('connection', (ws) => ws.on('message', (data, binary) => ws.send(data, { binary })));

// socket.io takes the upgrades under its own path.
server.on('upgrade', (request, socket, head) => {
  if (new URL(request.url, 'http://localhost').pathname !== '/ws/echo') return;
  sockets.handleUpgrade(request, socket, head, (ws) => sockets.emit('connection', ws));
});

server.listen(Number(process.argv[2]), '127.0.0.1');
