// The chat page of chatd: a client of chatd.v1 (PROTOCOL.md) in plain JavaScript, one file.
//
//   SocketLink, StreamLink   one connection: frames in, frames out
//   Chat                     positions, outbox, reconnecting; knows no document
//   View                     the document; knows no protocol
//
// Whatever others wrote reaches the document through textContent only. The token lives in a field of
// Chat and nowhere else.
"use strict";

const DIAL_MS = 10_000; // for a connection to say `connected`
const ANSWER_MS = 30_000; // for the answer to a request
const STABLE_MS = 5_000; // a connection that lasted this long makes the backoff start again
const PROBE_MS = [30_000, 600_000]; // while on HTTP: how often to look whether the socket works again
const FIRST_N = 50; // messages shown on arrival
const PAGE_N = 50; // further ones asked for at a time
const KEEP_N = 2_000; // messages in the document; older ones can be asked for again
const CLIP_CHARACTERS = 1_200;
const TOGETHER_MS = 5 * 60_000; // messages of one author within this stand together

// ASCII only, so that it fits into a header.
const asciiJson = (value) =>
  JSON.stringify(value).replace(/[\u007f-\uffff]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
const bytesOf = (text) => new TextEncoder().encode(text).length;

// Connections ---------------------------------------------------------------------------------------
//
// Both have send(frame) and end(). They call on.frame(frame), on.heard() whenever a byte came, and on.end({code,
// reason, reached, fatal, holdMs}) once; `reached` says that the server was there at all.

class SocketLink {
  constructor(url, hello, on) {
    this.on = on;
    this.reached = false;
    this.socket = new WebSocket(url, ["chatd.v1"]);
    this.socket.onopen = () => {
      this.reached = true;
      this.socket.send(JSON.stringify({ type: "connect", id: 0, ...hello }));
    };
    this.socket.onmessage = (event) => {
      this.on.heard();
      if (event.data === "{}") this.socket.send("{}");
      else this.on.frame(JSON.parse(event.data));
    };
    this.socket.onclose = (event) => this.#over(event.code, event.reason);
  }

  send(frame) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  end(code = 1006, reason = "") {
    this.socket.close();
    this.#over(code, reason); // a dead network would keep the close event back for a minute
  }

  #over(code, reason) {
    const on = this.on;
    this.on = { frame() {}, heard() {}, end() {} };
    on.end({ code, reason, reached: this.reached, fatal: false, holdMs: 0 });
  }
}

class StreamLink {
  constructor(base, hello, on) {
    this.on = on;
    this.base = base;
    this.hello = hello;
    this.reached = false;
    this.stop = new AbortController();
    this.#listen().catch(() => this.#over({ code: 1006 }));
  }

  #headers() {
    return this.hello.token ? { Authorization: "Bearer " + this.hello.token } : {};
  }

  async #listen() {
    const query = new URLSearchParams();
    const places = {};
    for (const { channel, from } of this.hello.subscribe) {
      query.append("channel", channel);
      if (Array.isArray(from)) places[channel] = from;
      else query.set("from", typeof from === "object" ? "last:" + from.last : from);
    }
    if (this.hello.client) query.set("client", this.hello.client);
    const headers = this.#headers();
    if (Object.keys(places).length) headers["Last-Event-ID"] = asciiJson(places);
    const answer = await fetch(this.base + "sse?" + query, { headers, cache: "no-store", signal: this.stop.signal });
    this.reached = true;
    if (!answer.ok) return this.#refused(answer, await errorOf(answer));
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return this.#over({ code: 1006 });
      this.on.heard();
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) this.#event(event);
    }
  }

  #event(text) {
    let kind = "";
    const data = [];
    for (const line of text.split("\n")) {
      if (line.startsWith("event: ")) kind = line.slice(7);
      else if (line.startsWith("data: ")) data.push(line.slice(6));
    }
    if (!data.length) return;
    const frame = JSON.parse(data.join("\n"));
    if (kind === "close") this.#over(frame);
    else this.on.frame(frame);
  }

  async send(frame) {
    try {
      const answer = await fetch(this.base + "publish", {
        method: "POST",
        headers: { ...this.#headers(), "Content-Type": "application/json" },
        body: JSON.stringify({ ...frame, client: this.hello.client }),
        signal: this.stop.signal,
      });
      const reply = answer.ok ? await answer.json() : { ...(await errorOf(answer)), id: frame.id };
      this.on.frame(reply);
    } catch {
      this.#over({ code: 1006 });
    }
  }

  #refused(answer, error) {
    const wait = Number(answer.headers.get("Retry-After")) * 1000 || 0;
    this.#over({ code: 1006, reason: error.reason, fatal: !error.temporary, holdMs: wait });
  }

  end(code = 1006, reason = "") {
    this.#over({ code, reason });
  }

  #over({ code, reason = "", fatal = false, holdMs = 0 }) {
    const on = this.on;
    this.on = { frame() {}, heard() {}, end() {} };
    this.stop.abort();
    on.end({ code, reason, reached: this.reached, fatal, holdMs });
  }
}

async function errorOf(answer) {
  const plain = { type: "error", code: answer.status, reason: `HTTP ${answer.status}`, temporary: answer.status >= 500 };
  try {
    const error = await answer.json();
    return error.type === "error" ? error : plain;
  } catch {
    return plain;
  }
}

// The session ---------------------------------------------------------------------------------------

class Chat {
  // `on`: state(kind, {at, via}), live(more), message(m), gap(text), anew(), sent(item), settled(id),
  //       failed(id, reason), earlier(messages, more), over(reason)
  constructor({ socketUrl, base, channel, name, token, on }) {
    Object.assign(this, { socketUrl, base, channel, token, on });
    this.user = name;
    this.client = name || undefined; // a token has a name of its own
    this.position = null; // [epoch, serial] of the last message taken
    this.first = null; // the lowest serial shown, while all that is shown is of one epoch
    this.floor = 1;
    this.outbox = new Map(); // message id → item, in the order of writing
    this.inFlight = null; // {id, kind, item}: the one request under way
    this.requestId = 0;
    this.retryMs = [500, 30_000];
    this.silenceMs = 33_000;
    this.attempt = 0;
    this.goodbye = null;
    this.tab = Array.from(crypto.getRandomValues(new Uint8Array(6)), (b) => b.toString(16).padStart(2, "0")).join("");
    this.count = 0;
    this.timers = {};
    this.probes = 0;
    this.dial("socket");
  }

  // Connecting

  dial(via) {
    this.#clear();
    this.via = via;
    this.ready = false;
    this.goodbye = null;
    this.on.state("connecting", { via });
    const from = this.position ?? { last: FIRST_N };
    const hello = { client: this.client, token: this.token || undefined, subscribe: [{ channel: this.channel, from }] };
    const on = {
      frame: (frame) => this.#frame(frame),
      heard: () => this.#timer("silence", this.silenceMs, () => this.link.end()),
      end: (end) => this.#ended(end),
    };
    this.#timer("dial", DIAL_MS, () => this.link.end());
    try {
      this.link = via === "socket" ? new SocketLink(this.socketUrl, hello, on) : new StreamLink(this.base, hello, on);
    } catch (bad) {
      this.stop(String(bad.message));
    }
  }

  #ended({ code, reason, reached, fatal, holdMs }) {
    const lasted = this.ready && performance.now() - this.since >= STABLE_MS;
    const wasReady = this.ready;
    this.ready = false;
    this.inFlight = null;
    this.#clear();
    if (this.stopped) return;
    if (fatal || (code >= 4500 && code <= 4599)) return this.stop(reason || `The server closed with ${code}.`);
    if (lasted) this.attempt = 0;
    if (this.via === "socket" && !reached && !wasReady) return this.dial("http");
    const [base, cap] = this.retryMs;
    let delay = Math.random() * Math.min(cap, base * 2 ** this.attempt);
    if (code >= 4100 && code <= 4199 && lasted) {
      const [low, high] = this.goodbye?.after_ms ?? [0, 0];
      delay = low + Math.random() * (high - low);
    }
    this.attempt = Math.min(this.attempt + 1, 30);
    this.redial(Math.max(delay, holdMs));
  }

  redial(delayMs) {
    this.#timer("redial", delayMs, () => this.dial("socket"));
    this.on.state("waiting", { at: Date.now() + delayMs });
  }

  // The user, or the browser, knows that now is a good time.
  hurry(withinMs = 0) {
    if (this.timers.redial) this.redial(Math.random() * withinMs);
  }

  // The browser knows that there is no network; the socket would find out in half a minute.
  offline() {
    if (!this.timers.redial) this.link.end();
  }

  stop(reason) {
    this.stopped = true;
    this.#clear();
    this.link?.end();
    this.on.over(reason);
  }

  #probe() {
    const wait = Math.min(PROBE_MS[1], PROBE_MS[0] * 2 ** this.probes++) * (0.5 + Math.random());
    this.#timer("probe", wait, () => {
      const socket = new WebSocket(this.socketUrl, ["chatd.v1"]);
      socket.onopen = () => {
        socket.close();
        if (this.via === "http" && this.ready) {
          this.probes = 0;
          this.link.on = { frame() {}, heard() {}, end() {} };
          this.link.stop.abort();
          this.inFlight = null;
          this.dial("socket");
        }
      };
      socket.onclose = () => this.via === "http" && this.ready && this.#probe();
    });
  }

  #timer(name, delayMs, call) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(() => {
      delete this.timers[name];
      call();
    }, delayMs);
  }

  #clear() {
    for (const name of Object.keys(this.timers)) {
      clearTimeout(this.timers[name]);
      delete this.timers[name];
    }
  }

  // Frames

  #frame(frame) {
    switch (frame.type) {
      case "connected": return this.#connected(frame);
      case "subscribed": return this.#subscribed(frame);
      case "message": return frame.channel === this.channel && this.#message(frame);
      case "live": return this.#live(frame);
      case "gap": return this.#gapPushed(frame);
      case "reset": return this.#reset(frame);
      case "goodbye": this.goodbye = frame; return;
      case "ack": case "history": case "error": return this.#answer(frame);
    }
  }

  #connected(frame) {
    this.user = frame.user;
    this.limits = frame.limits;
    this.retryMs = frame.retry_ms;
    this.silenceMs = (frame.ping_s + frame.pong_s) * 1000;
    this.since = performance.now();
  }

  #subscribed(frame) {
    const before = this.position;
    if (frame.gap) this.#gap(frame.gap);
    this.position = [frame.position[0], frame.start];
    this.floor = frame.floor;
    if (before === null) this.first = frame.start + 1;
  }

  #message(frame) {
    if (frame.serial <= this.position[1]) return;
    if (frame.serial > this.position[1] + 1) return this.link.end(4007); // an undeclared hole: resume before it
    this.position = [this.position[0], frame.serial];
    if (frame.user === this.user) this.#settle(frame.message);
    this.on.message(frame);
  }

  #live(frame) {
    if (frame.position[0] === this.position[0] && frame.position[1] > this.position[1]) return this.link.end(4007);
    clearTimeout(this.timers.dial);
    delete this.timers.dial;
    this.ready = true;
    this.on.state("online", { via: this.via });
    this.on.live(this.more);
    if (this.via === "http") this.#probe();
    this.#pump();
  }

  #gapPushed(frame) {
    if (frame.from[0] === this.position[0] && frame.from[1] > this.position[1]) return this.link.end(4007);
    if (frame.to[0] === this.position[0] && frame.to[1] <= this.position[1]) return;
    this.#gap(frame);
    this.position = frame.to;
  }

  #gap({ why, from, to }) {
    if (from[0] === to[0] && to[1] > from[1]) return this.on.gap(missing(to[1] - from[1]));
    this.#anew();
    this.on.gap(why === "ahead" || why === "fork"
      ? "The server has lost the newest messages above"
      : "The server lost the earlier conversation; a new one begins here");
  }

  // What is shown is no longer one run of serials: the next ones may use the same numbers again.
  #anew() {
    this.first = null;
    this.on.anew();
  }

  #reset(frame) {
    const [, serial] = this.position;
    this.#anew();
    if (serial > frame.fork) this.on.gap(`The server has lost the last ${serial - frame.fork} messages above`);
    this.position = [frame.position[0], Math.min(serial, frame.fork)];
  }

  // Requests: one at a time, so that what is written stays in order whatever happens

  publish(text) {
    const item = { message: `${this.tab}:${++this.count}`, data: { text }, text, time: Date.now() };
    this.outbox.set(item.message, item);
    this.on.sent(item);
    this.#pump();
  }

  retry(message) {
    const item = this.outbox.get(message);
    this.outbox.delete(message);
    item.failed = false;
    this.outbox.set(message, item); // at the end: those behind it have been placed meanwhile
    this.on.sent(item);
    this.#pump();
  }

  discard(message) {
    this.#settle(message);
  }

  get more() {
    return this.first !== null && this.first > this.floor;
  }

  earlier() {
    this.wantEarlier = true;
    this.#pump();
  }

  // Whether the server would take it; it closes the connection of who sends more.
  fits(text) {
    const limit = this.limits?.frame_bytes ?? 65_536;
    return bytesOf(JSON.stringify({ text })) + bytesOf(this.channel) * 2 + bytesOf(this.user) * 2 + 256 <= limit;
  }

  #pump() {
    if (!this.ready || this.inFlight || this.timers.hold) return;
    let item = null;
    for (const each of this.outbox.values()) {
      if (!each.failed && !each.acked) {
        item = each;
        break;
      }
    }
    const id = this.requestId + 1;
    if (item) {
      this.#ask({ type: "publish", id, channel: this.channel, message: item.message, data: item.data }, item);
    } else if (this.wantEarlier && this.more) {
      this.#ask({ type: "history", id, channel: this.channel, before: this.first, limit: PAGE_N }, null);
    }
  }

  #ask(frame, item) {
    this.requestId = frame.id;
    this.inFlight = { id: frame.id, item };
    this.#timer("answer", ANSWER_MS, () => this.link.end());
    this.link.send(frame);
  }

  #answer(frame) {
    const asked = this.inFlight;
    if (asked === null || frame.id !== asked.id) {
      // An error that answers `connect`: the same request would fail again.
      if (frame.type === "error" && !this.ready && !frame.temporary) this.stop(frame.reason);
      return;
    }
    this.inFlight = null;
    clearTimeout(this.timers.answer);
    delete this.timers.answer;
    if (frame.type === "error") this.#refused(frame, asked.item);
    else if (frame.type === "ack") this.#acked(frame, asked.item);
    else this.#page(frame);
    this.#pump();
  }

  #acked(frame, item) {
    item.acked = true;
    const [epoch, serial] = frame.position;
    // It is shown where it stands in the stream. If that place has gone by, it was in a declared gap.
    if (epoch === this.position[0] && serial <= this.position[1]) this.#settle(item.message);
  }

  #refused(error, item) {
    if (error.temporary || error.code === 412) {
      this.#timer("hold", (error.after_ms ?? 1000) * (1 + Math.random()), () => this.#pump());
    } else if (item) {
      item.failed = true;
      this.on.failed(item.message, error.reason);
    } else {
      this.wantEarlier = false;
    }
  }

  #page(frame) {
    this.wantEarlier = false;
    if (this.first === null || frame.position[0] !== this.position[0]) return;
    const older = frame.messages.filter((message) => message.serial < this.first);
    this.floor = frame.floor;
    this.first = older.length ? older[0].serial : this.floor;
    this.on.earlier(older, this.more);
  }

  #settle(message) {
    if (this.outbox.delete(message)) this.on.settled(message);
  }
}

const missing = (n) =>
  n === 1 ? "1 message is no longer available" : `${n.toLocaleString("en")} messages are no longer available`;

// The document --------------------------------------------------------------------------------------

const $ = (id) => document.getElementById(id);

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

function dayName(time) {
  const day = new Date(time).toDateString();
  if (day === new Date().toDateString()) return "Today";
  if (day === new Date(Date.now() - 86_400_000).toDateString()) return "Yesterday";
  return DAY.format(time);
}

function initial(name) {
  const segments = Intl.Segmenter ? new Intl.Segmenter().segment(name.trim()) : [{ segment: [...name.trim()][0] }];
  for (const { segment } of segments) return segment.toLocaleUpperCase();
  return "?";
}

function tone(name) {
  let hash = 7;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 65_521;
  return "tone-" + (hash % 8);
}

// `data` is any JSON; this page writes {"text": …}.
function textOf(data) {
  if (typeof data === "string") return data;
  if (data !== null && typeof data === "object" && typeof data.text === "string") return data.text;
  return JSON.stringify(data, null, 1);
}

const isText = (frame) => (frame.kind ?? "text") === "text";

class View {
  constructor() {
    this.log = $("log");
    this.outbox = $("outbox");
    this.scroller = $("scroll");
    this.unread = 0;
    this.marks = new Map(); // serial → what was said about that message
    this.scroller.addEventListener("scroll", () => this.atEnd() && this.#seen());
    document.addEventListener("visibilitychange", () => !document.hidden && this.atEnd() && this.#seen());
    new ResizeObserver(() => this.stick && this.toEnd()).observe(this.scroller);
    this.scroller.addEventListener("scroll", () => (this.stick = this.atEnd()), { passive: true });
    this.stick = true;
  }

  open(chat, channel, name) {
    this.chat = chat;
    this.shown = 0;
    this.marks.clear();
    this.log.replaceChildren();
    this.outbox.replaceChildren();
    this.scroller.setAttribute("aria-live", "off"); // until the first page is there
    for (const id of ["empty", "earlier", "newest"]) $(id).hidden = true;
    $("title").textContent = channel;
    this.name(name);
    $("door").hidden = true;
    $("room").hidden = false;
    this.#title();
    $("text").focus();
  }

  close(reason) {
    clearInterval(this.countdown);
    $("room").hidden = true;
    $("door").hidden = false;
    document.title = "Chat";
    $("why").textContent = reason;
    $("why").hidden = !reason;
    $("name").focus();
  }

  name(name) {
    $("me").textContent = name;
  }

  // Connection

  state(kind, { at, via }) {
    clearInterval(this.countdown);
    $("link").dataset.state = kind;
    $("now").hidden = kind !== "waiting";
    if (kind === "online") this.#say("Online", via === "http" ? "Online over HTTP" : "Online");
    const again = this.shown ? "Reconnecting" : "Connecting";
    if (kind === "connecting") this.#say(again, again + " …");
    if (kind === "waiting") {
      const tick = () => {
        const left = Math.max(0, Math.ceil((at - Date.now()) / 1000));
        const where = navigator.onLine ? "Reconnecting" : "Offline, reconnecting";
        this.#say(navigator.onLine ? "Connection lost" : "Offline", where + (left ? ` in ${left} s` : " …"));
      };
      tick();
      this.countdown = setInterval(tick, 250);
    }
    this.#notes();
  }

  // Seconds that count down are for the eye; the ear gets each change of state once.
  #say(spoken, seen) {
    if ($("state").textContent !== seen) $("state").textContent = seen;
    if ($("spoken").textContent !== spoken) $("spoken").textContent = spoken;
  }

  live(more) {
    this.shown++;
    this.name(this.chat.user);
    this.scroller.setAttribute("aria-live", "polite");
    $("earlier").hidden = !more;
    this.#empty();
    this.#notes();
  }

  // Messages

  message(frame) {
    if (!isText(frame)) return this.#annotate(frame);
    const stick = this.stick;
    const own = frame.user === this.chat.user;
    this.#append(this.log, this.#element(frame, own), frame.time);
    this.#prune();
    this.#empty();
    this.#arrived(stick || own, own);
  }

  gap(text) {
    const stick = this.stick;
    this.log.append(make("li", "gap", text));
    this.#empty();
    this.#arrived(stick, false);
  }

  earlier(messages, more) {
    const before = this.scroller.scrollHeight - this.scroller.scrollTop;
    const old = [...this.log.children];
    this.log.replaceChildren();
    for (const frame of messages) {
      if (isText(frame)) this.#append(this.log, this.#element(frame, frame.user === this.chat.user), frame.time);
      else this.#annotate(frame);
    }
    if (old[0]?.dataset.day === this.#lastDay(this.log)) old.shift(); // its heading stands further up now
    this.log.append(...old);
    $("earlier").hidden = !more;
    this.scroller.scrollTop = this.scroller.scrollHeight - before;
  }

  #append(list, element, time) {
    const day = new Date(time).toDateString();
    if (this.#lastDay(list) !== day) {
      const heading = make("li", "day", dayName(time));
      heading.dataset.day = day;
      list.append(heading);
    }
    const last = list.lastElementChild;
    element.dataset.day = day;
    const together = last?.dataset.user === element.dataset.user && time - last.dataset.time < TOGETHER_MS;
    element.classList.toggle("more", together);
    list.append(element);
  }

  #lastDay(list) {
    let element = list.lastElementChild;
    while (element && !element.dataset.day) element = element.previousElementSibling;
    return element?.dataset.day;
  }

  #element({ user, time, data, serial }, own) {
    const item = make("li", "message " + tone(user) + (own ? " own" : ""));
    item.dataset.user = user;
    item.dataset.time = time;
    if (serial !== undefined) item.dataset.serial = serial;
    const face = make("span", "face", initial(user));
    face.setAttribute("aria-hidden", "true");
    const who = make("div", "who");
    const when = make("time", "", CLOCK.format(time));
    when.dateTime = new Date(time).toISOString();
    when.title = FULL.format(time);
    who.append(make("bdi", "name", user), when);
    const body = make("div", "body");
    this.#text(body, textOf(data));
    item.append(face, who, body);
    if (this.marks.has(serial)) this.#decorate(item, this.marks.get(serial));
    return item;
  }

  // Reactions, edits and deletions: messages about an earlier one, which may be shown only later

  anew() {
    this.marks.clear();
    for (const element of this.log.querySelectorAll("[data-serial]")) delete element.dataset.serial;
  }

  #annotate({ kind, to, serial, user, data }) {
    if (!["react", "edit", "delete"].includes(kind)) return;
    const marks = this.marks.get(to) ?? { edited: 0, deleted: false, reactions: new Map() };
    this.marks.set(to, marks);
    if (kind === "delete") marks.deleted = true;
    if (kind === "edit" && serial > marks.edited) Object.assign(marks, { edited: serial, text: textOf(data) });
    if (kind === "react") {
      const key = JSON.stringify([user, data.emoji]);
      const last = marks.reactions.get(key);
      if (!last || serial > last.serial) marks.reactions.set(key, { serial, emoji: data.emoji, on: data.op === "add" });
    }
    const element = this.log.querySelector(`[data-serial="${Number(to)}"]`);
    if (!element) return;
    this.#decorate(element, marks);
    if (this.stick) this.toEnd();
  }

  #decorate(element, marks) {
    const body = element.querySelector(".body");
    if (marks.deleted || marks.edited) {
      body.replaceChildren();
      this.#text(body, marks.deleted ? "Deleted" : marks.text);
      element.classList.toggle("deleted", marks.deleted);
      if (!marks.deleted) body.append(make("p", "note", "edited"));
    }
    body.querySelector(".reactions")?.remove();
    const counts = new Map();
    for (const { emoji, on } of marks.reactions.values()) if (on) counts.set(emoji, (counts.get(emoji) ?? 0) + 1);
    if (!counts.size || marks.deleted) return;
    const list = make("ul", "reactions");
    list.setAttribute("aria-label", "Reactions");
    for (const [emoji, count] of counts) list.append(make("li", "", count > 1 ? `${emoji} ${count}` : emoji));
    body.append(list);
  }

  #text(body, text) {
    const paragraph = make("p", "text", text);
    paragraph.dir = "auto";
    body.append(paragraph);
    if (text.length <= CLIP_CHARACTERS && text.split("\n").length <= 20) return;
    paragraph.classList.add("clipped");
    const all = make("button", "small unclip", `Show all ${text.length.toLocaleString("en")} characters`);
    all.type = "button";
    all.addEventListener("click", () => {
      paragraph.classList.remove("clipped");
      all.remove();
    });
    body.append(all);
  }

  #arrived(stick, own) {
    if (stick) this.toEnd();
    if (own || this.scroller.getAttribute("aria-live") === "off") return; // the first page is not news
    if (!stick) $("newest").hidden = false;
    if (!stick || document.hidden) {
      this.unread++;
      this.#title();
    }
  }

  #seen() {
    $("newest").hidden = true;
    if (document.hidden || !this.unread) return;
    this.unread = 0;
    this.#title();
  }

  #title() {
    document.title = (this.unread ? `(${this.unread}) ` : "") + $("title").textContent + " – Chat";
  }

  #empty() {
    $("empty").hidden = this.log.childElementCount + this.outbox.childElementCount > 0;
  }

  #prune() {
    if (this.log.childElementCount <= KEEP_N * 1.25 || !this.stick) return;
    while (this.log.childElementCount > KEEP_N) this.log.firstElementChild.remove();
    const oldest = this.log.querySelector("[data-serial]");
    if (this.chat.first !== null && oldest) this.chat.first = Number(oldest.dataset.serial);
    $("earlier").hidden = !this.chat.more;
  }

  atEnd() {
    return this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight < 60;
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.stick = true;
  }

  // One's own messages until they stand in the stream

  sent(item) {
    this.settled(item.message);
    const element = this.#element({ user: this.chat.user, time: item.time, data: item.data }, true);
    element.classList.add("pending", "more");
    element.dataset.message = item.message;
    element.querySelector(".body").append(make("p", "note"));
    this.outbox.append(element);
    this.#notes();
    this.#empty();
    this.toEnd();
  }

  settled(message) {
    for (const element of this.outbox.children) {
      if (element.dataset.message === message) element.remove();
    }
  }

  failed(message, reason) {
    for (const element of this.outbox.children) {
      if (element.dataset.message !== message) continue;
      element.classList.remove("pending");
      element.classList.add("failed");
      element.querySelector(".note").textContent = "Not sent: " + reason;
      const choices = make("div", "choices");
      for (const [label, act] of [["Try again", "retry"], ["Discard", "discard"]]) {
        const button = make("button", "small", label);
        button.type = "button";
        button.addEventListener("click", () => this.chat[act](message));
        choices.append(button);
      }
      element.querySelector(".body").append(choices);
    }
  }

  #notes() {
    const online = $("link").dataset.state === "online";
    for (const note of this.outbox.querySelectorAll(".pending .note")) {
      note.textContent = online ? "Sending …" : "Waits for the connection";
    }
  }
}

// Wiring --------------------------------------------------------------------------------------------

async function start() {
  const view = new View();
  let chat = null;
  const base = new URL(".", location.href).href;
  let socketUrl = "";
  const remembered = (key, value) => {
    try {
      return value === undefined ? sessionStorage.getItem(key) : sessionStorage.setItem(key, value);
    } catch {
      return null; // storage is switched off: nothing depends on it
    }
  };
  $("name").value = remembered("name") ?? "";
  if (location.hash.length > 1) {
    try {
      $("channel").value = decodeURIComponent(location.hash.slice(1));
    } catch {
      // no channel name in the address
    }
  }
  $("name").focus();

  $("join").addEventListener("submit", async (event) => {
    event.preventDefault();
    const [name, channel, token] = ["name", "channel", "token"].map((id) => $(id).value.trim());
    if (!(name || token) || !channel) return;
    $("token").value = "";
    $("name").required = true;
    remembered("name", name);
    history.replaceState(null, "", "#" + encodeURIComponent(channel));
    try {
      socketUrl ||= (await (await fetch(base + "about.json")).json()).socket;
    } catch {
      return view.close("The server does not answer. Is it running?");
    }
    const on = {};
    for (const call of ["state", "live", "message", "gap", "anew", "sent", "settled", "failed", "earlier"]) {
      on[call] = (...values) => view[call](...values);
    }
    on.state = (...values) => chat && view.state(...values);
    on.over = (reason) => {
      chat = null;
      view.close(reason);
    };
    chat = new Chat({ socketUrl, base, channel, name, token, on });
    view.open(chat, channel, name);
    view.state("connecting", {});
  });

  $("token").addEventListener("input", () => ($("name").required = !$("token").value));
  $("leave").addEventListener("click", () => chat?.stop(""));
  $("now").addEventListener("click", () => chat?.hurry());
  $("earlier").addEventListener("click", () => chat?.earlier());
  $("newest").addEventListener("click", () => view.toEnd());
  window.addEventListener("offline", () => chat?.offline());
  window.addEventListener("online", () => chat?.hurry(500));

  const text = $("text");
  const fit = () => {
    if (CSS.supports("field-sizing", "content")) return;
    text.style.height = "auto";
    text.style.height = text.scrollHeight + 2 + "px";
  };
  text.addEventListener("input", () => {
    $("trouble").textContent = "";
    fit();
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $("composer").requestSubmit();
    }
  });
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!chat || !text.value.trim()) return;
    if (!chat.fits(text.value)) {
      $("trouble").textContent = "This is more than one message can hold. Send it in parts.";
      return;
    }
    chat.publish(text.value);
    text.value = "";
    fit();
    text.focus();
  });
}

start();
