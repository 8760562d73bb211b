// Node's ws, as its documentation broadcasts. node relay_ws.cjs PORT
const { WebSocketServer } = require("ws");

const server = new WebSocketServer({ host: "127.0.0.1", port: +process.argv[2], backlog: 4096, perMessageDeflate: false });
const subscribers = new Set();

server.on("connection", (socket, request) => {
  if (request.url === "/publish") {
    socket.on("message", (message) => {
      for (const one of subscribers) one.send(message, { binary: false });
    });
    return;
  }
  subscribers.add(socket);
  socket.on("close", () => subscribers.delete(socket));
});
