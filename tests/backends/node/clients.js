// Real clients of one kind, as their documentation shows them: `node clients.js KIND NAME=URL ...`
//
// Each says its name whenever it is connected. One that was answered after it had come back leaves. So this
// process ends by itself: when all have left, or when nobody who is still here will ever connect again.
// On stdout: `NAME opened`, `NAME heard TEXT`, `NAME closed CODE`, `NAME gave up REASON`, `NAME left`.
//
// All settings are the library's defaults, but for a shorter back-off, and for what a kind's name says.
'use strict';

const WS = require('ws');

const SOON_MS = 100;
const LATEST_MS = 400;
const IMPATIENT_MS = 300;
const PATIENT_MS = 60_000; // of 4 s by default, which a busy machine may need

// What became of one client. `leave` is set by its kind.
class Story {
  constructor(name) {
    this.name = name;
    this.openings = 0;
  }

  tell(...words) {
    console.log([this.name, ...words].join(' '));
  }

  opened(say) {
    this.openings += 1;
    this.tell('opened');
    say(this.name);
  }

  heard(text) {
    this.tell('heard', text);
    if (this.openings < 2) return;
    this.tell('left');
    this.leave();
  }
}

// For all that have the interface of the browsers' WebSocket.
function webSocket(socket, story) {
  socket.addEventListener('open', () => story.opened((text) => socket.send(text)));
  socket.addEventListener('message', (event) => story.heard(event.data));
  socket.addEventListener('close', (event) => story.tell('closed', event.code));
  socket.addEventListener('error', () => {}); // `ws` throws what nobody listens to
  story.leave = () => socket.close();
}

const soon = {
  WebSocket: WS, minReconnectionDelay: SOON_MS, maxReconnectionDelay: LATEST_MS, connectionTimeout: PATIENT_MS,
};
const impatient = { ...soon, connectionTimeout: IMPATIENT_MS };

function reconnecting(url, story, options) {
  const ReconnectingWebSocket = require('reconnecting-websocket');
  webSocket(new ReconnectingWebSocket(url, [], options), story);
}

async function party(url, story, options) {
  const { WebSocket: PartyWebSocket } = await import('partysocket');
  webSocket(new PartyWebSocket(url, [], options), story);
}

function socketIo(url, story, options) {
  const { io } = require('socket.io-client');
  const socket = io(url, { forceNew: true, reconnectionDelay: SOON_MS, reconnectionDelayMax: LATEST_MS, ...options });
  const say = () => story.opened((text) => socket.emit('say', text));
  socket.on('connect', () => {
    const { engine } = socket.io;
    if (engine.transport.name === 'websocket') say();
    else engine.once('upgrade', say); // polling comes first: wait for the WebSocket
  });
  socket.on('said', (text) => story.heard(text));
  socket.on('disconnect', (reason, details) => story.tell('closed', details?.context?.code ?? reason));
  story.leave = () => socket.disconnect();
}

function graphqlWs(url, story, options) {
  const { createClient } = require('graphql-ws');
  const retryWait = () => new Promise((resolve) => setTimeout(resolve, SOON_MS));
  const client = createClient({ url, webSocketImpl: WS, retryWait, ...options });
  client.on('connected', () => story.opened(() => {})); // what it says is its subscription
  client.on('closed', (event) => story.tell('closed', event.code));
  client.subscribe({ query: 'subscription { greeting }' }, {
    next: (result) => story.heard(result.data.greeting),
    error: (error) => story.tell('gave up', error.code ?? error.message),
    complete: () => {},
  });
  story.leave = () => client.dispose();
}

const kinds = {
  'ws': (url, story) => webSocket(new WS(url), story),
  'reconnecting-websocket': (url, story) => reconnecting(url, story, soon),
  'reconnecting-websocket, impatient': (url, story) => reconnecting(url, story, impatient),
  'partysocket': (url, story) => party(url, story, soon),
  'partysocket, impatient': (url, story) => party(url, story, impatient),
  'socket.io-client': (url, story) => socketIo(url, story, { transports: ['websocket'] }),
  'socket.io-client, polling first': (url, story) => socketIo(url, story, {}),
  'graphql-ws': (url, story) => graphqlWs(url, story, {}),
  'graphql-ws, told to retry': (url, story) => graphqlWs(url, story, { shouldRetry: () => true, retryAttempts: Infinity }),
};

const [kind, ...named] = process.argv.slice(2);
for (const word of named) {
  const [name, ...url] = word.split('=');
  kinds[kind](url.join('='), new Story(name));
}
