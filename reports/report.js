// Charts of report.html that answer: cursor with read-out, zoom, series on and off. uPlot stands before this.
//
//   unpack()      the charts' data, from the page itself
//   Group         charts that share an x axis: one cursor, one zoom
//   Live          one chart: its panels, key, read-out and keyboard
//
// The static SVG of each chart is hidden only when its live twin stands, and comes back on paper. Names of the
// run reach the document through textContent and the canvas only.
"use strict";
(() => {
  const KEYS = "Arrow keys move the read-out, plus and minus zoom, 0 shows everything again.";
  const ROW_KEYS = "Up and down choose a row.";
  const NARROW = matchMedia("(max-width: 40rem)");
  const DARK = matchMedia("(prefers-color-scheme: dark)");
  const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [12, 4], [4, 2]]; // as in report.css
  const CLOSEST = 1e-4; // of the whole axis: nothing is zoomed further
  const FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';

  async function unpack() {
    const packed = Uint8Array.from(atob(document.getElementById("charts").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  function element(tag, kind, text = "") {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    made.textContent = text;
    return made;
  }

  // Axes: uPlot draws all of them linear, in warped values.

  const warp = (value, axis) => {
    if (value === null) return null;
    if (axis.kind === "log") return Math.log10(Math.max(value, axis.low));
    return axis.kind === "quantile" ? -Math.log10(Math.max(1 - value, 1e-9)) : value;
  };
  const unwarp = (value, axis) => {
    if (axis.kind === "log") return 10 ** value;
    return axis.kind === "quantile" ? 1 - 10 ** -value : value;
  };

  function figure(value) {
    const size = Math.abs(value);
    if (size >= 100 || value === 0) return Math.round(value).toLocaleString("en-US");
    return value.toLocaleString("en-US", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
  }
  const count = (value) => (Number.isInteger(value) ? value.toLocaleString("en-US") : figure(value));
  const withUnit = (told, unit) => (unit.startsWith("/") || !unit ? told + unit : `${told} ${unit}`);

  function place(x, axis) {
    if (axis.kind === "quantile") return `p${(x * 100).toFixed(x < 0.9 ? 0 : Math.ceil(-Math.log10(1 - x)))}`;
    const told = axis.kind === "log" ? figure(x) : x.toLocaleString("en-US", { maximumFractionDigits: 2 });
    return withUnit(told, axis.unit);
  }

  // Round ticks inside [low, high], both warped, for an axis that is zoomed: [[warped, label] ...].
  function ticks(low, high, axis, most) {
    if (axis.kind === "log" && high - low > 1) {
      const decades = [];
      for (let e = Math.ceil(low); e <= high; e++) decades.push([e, figure(10 ** e)]);
      if (decades.length > 1) return decades;
    }
    if (axis.kind === "quantile") return axis.ticks.map(([v, label]) => [warp(v, axis), label]);
    const [from, to] = [unwarp(low, axis), unwarp(high, axis)];
    const size = 10 ** Math.floor(Math.log10((to - from) / most));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * size).find((s) => s * most >= to - from) || 10 * size;
    const made = [];
    for (let i = Math.ceil(from / step); i * step <= to * (1 + 1e-12); i++) {
      const value = +(i * step).toPrecision(12);
      made.push([warp(value, axis), value.toLocaleString("en-US", { maximumSignificantDigits: 6 })]);
    }
    return made;
  }

  class Group {
    constructor(axis) {
      this.lives = [];
      this.whole = this.shown = [warp(axis.low, axis), warp(axis.high, axis)];
      this.at = null; // warped x of the cursor
    }

    get zoomed() {
      return this.shown[0] !== this.whole[0] || this.shown[1] !== this.whole[1];
    }

    zoom(low, high) {
      const [first, last] = this.whole;
      const width = Math.min(last - first, Math.max(high - low, (last - first) * CLOSEST));
      const begin = Math.min(Math.max(low, first), last - width);
      this.shown = width >= last - first ? this.whole : [begin, begin + width];
      for (const live of this.lives) live.rescale();
    }

    point(at) {
      this.at = at;
      for (const live of this.lives) live.read();
    }
  }

  class Live {
    constructor(chart, root, group) {
      Object.assign(this, { chart, root, group, plots: [], told: [], row: null });
      this.grid = Grid.of(chart.panels[0]); // such a chart has one panel
      this.faults = chart.bands.filter(([, , , kind]) => kind === "fault");
      this.box = element("div", this.grid ? "live rows" : "live");
      this.box.tabIndex = 0;
      this.box.setAttribute("role", "group");
      this.box.setAttribute("aria-label", `${root.querySelector("figcaption b").textContent}. ${KEYS}${this.grid ? ` ${ROW_KEYS}` : ""}`);
      const bar = element("div", "bar-line");
      this.where = element("output", "where");
      this.back = element("button", "reset", "Show everything");
      this.back.type = "button";
      this.back.hidden = true;
      this.back.addEventListener("click", () => group.zoom(...group.whole));
      bar.append(this.where, this.back);
      this.box.append(bar);
      chart.panels.forEach((panel, index) => this.addPanel(panel, index));
      this.box.append(element("div", "x-title", chart.x.title));
      this.box.addEventListener("keydown", (event) => this.pressed(event));
      root.querySelector(".static").before(this.box);
      root.classList.add("is-live");
      group.lives.push(this);
      this.read();
      new ResizeObserver(() => this.resize()).observe(this.box);
    }

    addPanel(panel, index) {
      const from = this.root.querySelectorAll(".static .panel-head")[index];
      const head = from.cloneNode(true);
      const values = [];
      const items = head.querySelectorAll(".key li");
      const plot = this.makePlot(panel, index);
      panel.series.forEach((series, i) => {
        const value = element("span", "value");
        values.push(value);
        if (!items.length) return head.append(value);
        const toggle = element("button", "toggle");
        toggle.type = "button";
        toggle.setAttribute("aria-pressed", "true");
        toggle.append(...items[i].childNodes, value);
        toggle.addEventListener("click", () => {
          const on = !plot.series[i + 1].show;
          plot.setSeries(i + 1, { show: on });
          toggle.setAttribute("aria-pressed", String(on));
        });
        items[i].append(toggle);
      });
      this.plots.push(plot);
      this.told.push(values);
      this.box.append(head, plot.root);
    }

    makePlot(panel, index) {
      const { chart, group } = this;
      const last = index === chart.panels.length - 1;
      const lone = panel.series.length === 1;
      const lines = panel.series.map((s) => [s.x.map((x, i) => warp(x + this.half(s, i, x), chart.x)), s.y.map((y) => warp(y, panel.y))]);
      if (this.grid) lines.push([[chart.x.low, chart.x.high], [null, null]]); // uPlot wants a series
      const expand = lines.map((columns) => columns.map(() => 2)); // a hole reaches to its ends, over others' x
      const data = lines.length > 1 ? uPlot.join(lines, expand) : lines[0];
      const x = this.xAxis(last);
      const plot = new uPlot(
        {
          ...this.size(last),
          padding: [index === 0 && this.faults.length ? 16 : 6, 18, last ? 0 : 4, 0],
          legend: { show: false },
          scales: { x: { time: false, range: () => group.shown }, y: { range: (u, low, high) => this.yRange(panel.y, low, high) } },
          axes: [x, this.yAxis(panel.y)],
          series: [{}, ...(this.grid ? [{ points: { show: false } }] : panel.series.map((s) => this.line(s, lone)))],
          cursor: {
            y: Boolean(this.grid),
            points: { size: 7 },
            drag: { x: true, y: false, setScale: false },
            dataIdx: (u, si, at) => this.nearest(u.data[si], at),
            bind: { dblclick: () => () => group.zoom(...group.whole) },
          },
          hooks: {
            drawClear: [(u) => this.drawBands(u, index === 0)],
            setCursor: [(u) => this.moved(u)],
            setSelect: [(u) => this.selected(u)],
            drawAxes: [(u) => this.drawGrid(u)],
          },
        },
        data.length > 1 ? data : [[], []],
      );
      plot.root.setAttribute("aria-hidden", "true");
      return plot;
    }

    half(series, i, x) {
      if (!series.widths) return 0; // a bar is read at its middle
      const right = x + series.widths[i];
      return this.chart.x.kind === "log" ? Math.sqrt(x * right) - x : series.widths[i] / 2;
    }

    line(series, lone) {
      const stroke = () => colour(`s${series.slot}`);
      if (series.kind === "bars") return { stroke, fill: stroke, width: 0, points: { show: false }, paths: (u, i) => this.bars(u, i, series) };
      const dots = series.kind === "dots";
      const paths = dots ? () => null : series.kind === "step" ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.linear();
      const alone = (u, i) => {
        const ys = u.data[i];
        const beside = (at, by) => {
          while (ys[at + by] === undefined && at + by >= 0 && at + by < ys.length) at += by;
          return ys[at + by] ?? null;
        };
        return ys.flatMap((y, at) => (y != null && beside(at, -1) === null && beside(at, 1) === null ? [at] : []));
      };
      const points = { show: true, size: 6, fill: stroke, ...(dots ? {} : { filter: alone }) };
      return { stroke, width: 1.75, dash: lone ? [] : DASHES[series.slot % DASHES.length], paths, points, spanGaps: false };
    }

    bars(u, index, series) {
      const path = new Path2D();
      const floor = u.valToPos(u.scales.y.min, "y", true);
      series.x.forEach((x, i) => {
        if (!series.y[i]) return;
        const left = u.valToPos(warp(x, this.chart.x), "x", true);
        const right = u.valToPos(warp(x + series.widths[i], this.chart.x), "x", true);
        const top = u.valToPos(u.data[index][i], "y", true);
        path.rect(left + 0.5, top, Math.max(right - left - 1, 1), floor - top);
      });
      return { fill: path, stroke: null };
    }

    // The panel's own scale; while zoomed, what is in sight.
    yRange(axis, low, high) {
      const [first, last] = [warp(axis.low, axis), warp(axis.high, axis)];
      if (!this.group.zoomed || low === null || high === null) return [first, last];
      const room = (high - low || Math.abs(high) || 1) * 0.08;
      return axis.kind === "log" ? [Math.max(first, low - room), high + room] : [axis.low > 0 ? low - room : Math.min(0, low), Math.max(high + room, 1e-9)];
    }

    xAxis(last) {
      const { chart, group } = this;
      const most = () => (this.box.clientWidth < 480 ? 5 : 8);
      const whole = () => {
        const all = chart.x.ticks.map(([v, label]) => [warp(v, chart.x), label]);
        const each = chart.x.kind !== "quantile" ? Math.ceil(all.length / (this.box.clientWidth < 480 ? 6 : 12)) : 1;
        return all.filter((_, i) => i % each === 0);
      };
      const marks = () => (group.zoomed ? ticks(...group.shown, chart.x, most()) : whole());
      return {
        size: last ? 22 : 0, gap: 4, font: FONT, stroke: () => colour("soft"), grid: { show: false },
        ticks: { show: false }, border: { show: true, stroke: () => colour("soft"), width: 1 },
        splits: () => marks().map(([v]) => v),
        values: () => (last ? marks().map(([, label]) => label) : []),
      };
    }

    yAxis(axis) {
      const marks = (low, high) => {
        const whole = low === warp(axis.low, axis) && high === warp(axis.high, axis);
        return whole ? axis.ticks.map(([v, label]) => [warp(v, axis), label]) : ticks(low, high, axis, 5);
      };
      const shown = (u) => marks(u.scales.y.min, u.scales.y.max);
      return {
        size: () => (NARROW.matches ? 42 : 52), gap: 6, font: FONT, stroke: () => colour("soft"), ticks: { show: false },
        grid: { show: !this.grid?.height, stroke: () => colour("line"), width: 1 },
        splits: (u) => shown(u).map(([v]) => v),
        values: (u) => shown(u).map(([, label]) => label),
      };
    }

    size(last) {
      const one = this.chart.panels.length === 1;
      const above = this.faults.length ? 16 : 6;
      const height = this.grid?.height ? this.grid.height + 22 + above : (one ? (NARROW.matches ? 190 : 240) : 110) + (last ? 22 : 0) + 10;
      return { width: Math.max(this.box.clientWidth || 300, 120), height };
    }

    resize() {
      if (!this.box.clientWidth) return;
      this.plots.forEach((plot, i) => plot.setSize(this.size(i === this.plots.length - 1)));
    }

    rescale() {
      this.back.hidden = !this.group.zoomed;
      const [min, max] = this.group.shown;
      for (const plot of this.plots) plot.setScale("x", { min, max });
      this.read();
    }

    redraw() {
      for (const plot of this.plots) plot.redraw(false);
    }

    selected(u) {
      const { left, width } = u.select;
      u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
      if (width > 4) this.group.zoom(u.posToVal(left, "x"), u.posToVal(left + width, "x"));
    }

    moved(u) {
      if (this.busy || this.group.busy) return;
      const at = u.cursor.left >= 0 ? u.posToVal(u.cursor.left, "x") : null;
      const row = this.grid && at !== null ? this.rowAt(u.cursor.top / u.over.clientHeight) : null;
      if (at === this.group.at && row === this.row) return;
      this.row = row;
      this.group.busy = true;
      this.group.point(at);
      this.group.busy = false;
    }

    rowAt(share) {
      return Math.min(this.grid.rows - 1, Math.max(0, Math.floor(share * this.grid.rows)));
    }

    choose(row) {
      this.row = Math.min(this.grid.rows - 1, Math.max(0, row));
      if (this.group.at === null) this.group.at = this.group.shown[0];
      this.group.point(this.group.at);
      const [u] = this.plots;
      this.quietly(() => u.setCursor({ left: u.valToPos(this.group.at, "x"), top: this.top(u) }, false));
    }

    // Show the group's cursor in every panel, and what it points at in words.
    read() {
      const at = this.group.at;
      for (const plot of this.plots) {
        const left = at === null ? -10 : plot.valToPos(at, "x");
        if (Math.abs((plot.cursor.left ?? -10) - left) > 0.01) this.quietly(() => plot.setCursor({ left, top: this.top(plot) }, false));
      }
      this.where.textContent = at === null ? "" : this.context(at);
      this.chart.panels.forEach((panel, p) =>
        panel.series.forEach((series, i) => {
          const y = at === null ? null : this.valueAt(series, at);
          this.told[p][i].textContent = at === null ? "" : y === null ? "–" : withUnit(count(y), panel.y.unit);
        }),
      );
    }

    // Where the cursor's horizontal line belongs: nowhere in a chart without rows.
    top(plot) {
      return this.grid && this.row !== null ? ((this.row + 0.5) / this.grid.rows) * plot.over.clientHeight : -10;
    }

    quietly(act) {
      this.busy = true;
      act();
      this.busy = false;
    }

    context(at) {
      const x = unwarp(at, this.chart.x);
      const bars = this.chart.panels[0].series.find((s) => s.widths);
      if (bars) {
        const i = this.barAt(bars, x);
        return i < 0 ? place(x, this.chart.x) : `${figure(bars.x[i])}–${place(bars.x[i] + bars.widths[i], this.chart.x)}`;
      }
      const told = this.grid ? [this.grid.tell(x, this.row)].filter(Boolean) : [];
      const inside = this.chart.bands.filter(([begin, end]) => begin <= x && x <= end).map(([, , label]) => label);
      const named = this.chart.names?.[Math.round(x) - 1];
      return [named ? `${this.chart.x.title} ${Math.round(x)}, ${named}` : place(x, this.chart.x), ...inside.slice(0, 3), ...(inside.length > 3 ? [`${inside.length - 3} more`] : []), ...told].join(" · ");
    }

    barAt(series, x) {
      return series.x.findIndex((left, i) => left <= x && x < left + series.widths[i]);
    }

    valueAt(series, at) {
      const x = unwarp(at, this.chart.x);
      if (series.widths) return this.barAt(series, x) < 0 ? null : series.y[this.barAt(series, x)];
      const end = series.x.length - 1;
      if (end < 0) return null;
      const beside = end ? Math.max(series.x[1] - series.x[0], series.x[end] - series.x[end - 1]) : 1;
      const over = series.kind === "step" || this.chart.x.kind === "quantile" ? 0 : beside;
      if (x < series.x[0] - over || x > series.x[end] + over) return null; // nothing was measured there
      let after = series.x.findIndex((v) => v > x);
      if (after < 0) after = series.x.length;
      if (series.kind === "step" || after === series.x.length) return series.y[after - 1] ?? null;
      if (after === 0) return series.y[0];
      return x - series.x[after - 1] <= series.x[after] - x ? series.y[after - 1] : series.y[after];
    }

    nearest(ys, at) {
      for (let by = 0; by < 8; by++) for (const i of [at - by, at + by]) if (ys[i] != null) return i;
      return at;
    }

    pressed(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("button")) return;
      const [low, high] = this.group.shown;
      const step = (high - low) / (event.shiftKey ? 20 : 200);
      const at = this.group.at ?? (low + high) / 2;
      const near = (share) => this.group.zoom(at - (at - low) * share, at + (high - at) * share);
      const acts = {
        ArrowLeft: () => this.group.point(Math.max(low, at - step)),
        ArrowRight: () => this.group.point(Math.min(high, at + step)),
        Home: () => this.group.point(low),
        End: () => this.group.point(high),
        "+": () => near(0.5),
        "=": () => near(0.5),
        "-": () => near(2),
        0: () => this.group.zoom(...this.group.whole),
        Escape: () => this.group.zoom(...this.group.whole),
      };
      if (this.grid) {
        const middle = this.row ?? Math.floor(this.grid.rows / 2);
        acts.ArrowUp = () => this.choose(this.row === null ? middle : middle - 1);
        acts.ArrowDown = () => this.choose(this.row === null ? middle : middle + 1);
      }
      if (!acts[event.key]) return;
      event.preventDefault();
      acts[event.key]();
    }

    drawGrid(u) {
      if (!this.grid) return;
      const { ctx, bbox } = u;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      this.grid.paint(u, colour, FONT.replace("11px", `${11 * uPlot.pxRatio}px`));
      if (!this.grid.height) this.drawEdges(u);
      ctx.restore();
    }

    // Both ends of each fault, over what covers its band.
    drawEdges({ ctx, bbox, valToPos }) {
      ctx.setLineDash([3 * uPlot.pxRatio, 3 * uPlot.pxRatio]);
      ctx.strokeStyle = colour("fault");
      ctx.lineWidth = 1.5 * uPlot.pxRatio;
      for (const at of this.faults.flatMap(([begin, end]) => [begin, end])) {
        const x = valToPos(at, "x", true);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
      }
    }

    drawBands(u, numbered) {
      const { ctx, bbox } = u;
      const ratio = uPlot.pxRatio;
      ctx.save();
      const taken = []; // [left, right] of the numbers that stand: one that would cover another is left out
      let number = 0;
      for (const [begin, end, , kind] of this.chart.bands) {
        const fault = kind === "fault";
        number += fault ? 1 : 0;
        const from = Math.max(u.valToPos(begin, "x", true), bbox.left);
        const to = Math.min(u.valToPos(end, "x", true), bbox.left + bbox.width);
        if (to < bbox.left || from > bbox.left + bbox.width) continue;
        const width = Math.max(to - from, 2 * ratio);
        ctx.globalAlpha = fault ? 0.17 : 0.13;
        ctx.fillStyle = colour(fault ? "fault" : "warm");
        ctx.fillRect(from, bbox.top, width, bbox.height);
        ctx.globalAlpha = 1;
        if (!fault) continue;
        ctx.setLineDash([3 * ratio, 3 * ratio]);
        ctx.strokeStyle = colour("fault");
        ctx.lineWidth = 1.5 * ratio;
        ctx.beginPath();
        ctx.moveTo(from, bbox.top);
        ctx.lineTo(from, bbox.top + bbox.height);
        ctx.stroke();
        if (numbered) {
          ctx.font = FONT.replace("11px", `600 ${11 * ratio}px`);
          ctx.fillStyle = colour("ink");
          ctx.textAlign = "center";
          const half = ctx.measureText(String(number)).width / 2;
          const middle = from + width / 2;
          if (taken.some(([left, right]) => middle - half < right + 3 * ratio && middle + half > left - 3 * ratio)) continue;
          ctx.fillText(String(number), middle, bbox.top - 4 * ratio);
          taken.push([middle - half, middle + half]);
        }
      }
      ctx.restore();
    }
  }

  async function start() {
    if (typeof DecompressionStream === "undefined") return;
    const groups = new Map();
    const lives = [];
    for (const chart of await unpack()) {
      const root = document.getElementById(`chart-${chart.name}`);
      const axis = JSON.stringify([chart.x.title, chart.x.low, chart.x.high, chart.bands.length || chart.name]);
      if (!groups.has(axis)) groups.set(axis, new Group(chart.x));
      lives.push(new Live(chart, root, groups.get(axis)));
    }
    const hint = element("p", "quiet hint", `Charts: drag to zoom, double-click for everything. ${KEYS}`);
    lives[0]?.root.before(hint);
    const redraw = () => lives.forEach((live) => live.redraw());
    DARK.addEventListener("change", redraw);
    NARROW.addEventListener("change", () => lives.forEach((live) => live.resize()));
  }

  start();
})();
