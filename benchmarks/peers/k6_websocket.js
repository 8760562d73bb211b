// What people write who test a chat with k6: a socket for each virtual user, JSON.parse, a Trend.
//
//     k6 run -e TARGET=ws://127.0.0.1:PORT/ws -e USERS=200 benchmarks/peers/k6_websocket.js
//
// The Trend is of the wall clock: from the time in a message, ms, until it is read.

import { Trend } from "k6/metrics";
import exec from "k6/execution";
import { WebSocket } from "k6/websockets";

const delivery = new Trend("delivery", true);

export const options = {
  scenarios: {
    chat: {
      executor: "per-vu-iterations",
      vus: Number(__ENV.USERS),
      iterations: 1, // never ends: its socket stays open
      maxDuration: "1h",
    },
  },
};

export default function () {
  const client = `c${exec.vu.idInTest}`;
  const socket = new WebSocket(__ENV.TARGET);
  socket.onopen = () => {
    const subscribe = [{ channel: "room:1", from: "new" }];
    socket.send(JSON.stringify({ type: "connect", id: 0, client, subscribe }));
  };
  socket.onmessage = (event) => {
    if (event.data === "{}") {
      socket.send("{}");
      return;
    }
    const frame = JSON.parse(event.data);
    if (frame.type === "message") {
      delivery.add(Date.now() - frame.time);
    }
  };
}
