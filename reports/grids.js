// Heat maps and lanes: how they are painted, and what a place in them says. report.js has the charts around them.
//
//   Grid     a panel's rows, from above; with a row of none the whole column is meant
"use strict";
const Grid = (() => {
  const LANE = 30; // px, as in reports/svg_grids.py
  const BAR = [17, 9]; // of a lane: from where, how high
  const count = (n) => n.toLocaleString("en-US");
  const short = (n) => n.toLocaleString("en-US", { maximumSignificantDigits: 3 });

  class Heat {
    constructor({ cells, y }) {
      Object.assign(this, cells, { rows: cells.y.length - 1, height: null, axis: y });
    }

    shade(n) {
      return this.levels.reduce((found, [least, shade]) => (n >= least ? shade : found), null);
    }

    paint(u, colour) {
      const { ctx, bbox } = u;
      const high = bbox.height / this.rows;
      this.counts.forEach((column, at) => {
        const left = Math.round(u.valToPos(this.x[at], "x", true));
        const right = Math.round(u.valToPos(this.x[at + 1], "x", true));
        column.forEach((n, row) => {
          if (!n) return;
          ctx.fillStyle = colour(`h${this.shade(n)}`);
          const top = Math.round(bbox.top + (this.rows - 1 - row) * high);
          ctx.fillRect(left, top, right - left, Math.round(bbox.top + (this.rows - row) * high) - top);
        });
      });
    }

    tell(x, row) {
      const at = this.x.findIndex((left, i) => left <= x && x < this.x[i + 1]);
      if (at < 0) return "";
      const column = this.counts[at];
      const all = column.reduce((sum, n) => sum + n, 0);
      if (row === null || !all) return `${count(all)} ${this.unit}`;
      const from = this.rows - 1 - row;
      const share = short((column[from] / all) * 100);
      return `${short(this.y[from])}–${short(this.y[from + 1])} ${this.axis.unit}: ${count(column[from])} of ${count(all)} ${this.unit}, ${share} %`;
    }
  }

  class Lanes {
    constructor({ lanes }) {
      Object.assign(this, { lanes, rows: lanes.length, height: lanes.length * LANE });
    }

    paint(u, colour, font) {
      const { ctx, bbox } = u;
      const ratio = uPlot.pxRatio;
      const place = (t) => u.valToPos(t, "x", true);
      ctx.font = font;
      const wide = ({ label, aside }) => ctx.measureText(label).width + ctx.measureText(aside).width + 16 * ratio;
      const beside = this.lanes.every((lane) => wide(lane) <= bbox.width);
      this.lanes.forEach(({ label, aside, marks }, n) => {
        const top = bbox.top + n * LANE * ratio;
        if (n) {
          ctx.fillStyle = colour("line");
          ctx.fillRect(bbox.left, top, bbox.width, ratio);
        }
        this.write(ctx, label, bbox.left + 4 * ratio, top + 12 * ratio, "left", colour("ink"), colour("page"));
        if (beside) this.write(ctx, aside, bbox.left + bbox.width - 4 * ratio, top + 12 * ratio, "right", colour("soft"), colour("page"));
        for (const [planned, begin, end] of marks) {
          if (begin !== null) this.bar(ctx, place(begin), end === null ? bbox.left + bbox.width : place(end), top, end === null, colour("s1"));
          if (planned !== null) this.dot(ctx, place(planned), top, colour("page"), colour("ink"));
        }
      });
    }

    write(ctx, text, x, y, align, ink, halo) {
      ctx.textAlign = align;
      ctx.textBaseline = "alphabetic";
      ctx.lineJoin = "round";
      ctx.lineWidth = 3 * uPlot.pxRatio;
      ctx.strokeStyle = halo;
      ctx.strokeText(text, x, y);
      ctx.fillStyle = ink;
      ctx.fillText(text, x, y);
    }

    bar(ctx, left, right, top, endless, ink) {
      const ratio = uPlot.pxRatio;
      const box = [left, top + BAR[0] * ratio, Math.max(right - left, 2 * ratio), BAR[1] * ratio];
      ctx.fillStyle = ctx.strokeStyle = ink;
      ctx.globalAlpha = endless ? 0.35 : 1;
      ctx.fillRect(...box);
      ctx.globalAlpha = 1;
      if (!endless) return;
      ctx.setLineDash([4 * ratio, 2 * ratio]);
      ctx.lineWidth = 1.5 * ratio;
      ctx.strokeRect(...box);
      ctx.setLineDash([]);
    }

    dot(ctx, x, top, inside, ink) {
      const ratio = uPlot.pxRatio;
      ctx.beginPath();
      ctx.arc(x, top + (BAR[0] + BAR[1] / 2) * ratio, 4 * ratio, 0, 2 * Math.PI);
      ctx.fillStyle = inside;
      ctx.fill();
      ctx.lineWidth = 1.5 * ratio;
      ctx.strokeStyle = ink;
      ctx.stroke();
    }

    // The mark at x, or the nearest, of the row.
    tell(x, row) {
      if (row === null) return "";
      const far = ([planned, begin, end]) => {
        const from = Math.min(planned ?? Infinity, begin ?? Infinity);
        const to = begin === null ? from : (end ?? Infinity);
        return x < from ? from - x : x > to ? x - to : 0;
      };
      const { label, marks } = this.lanes[row];
      const best = marks.reduce((found, mark) => (found === null || far(mark) < far(found) ? mark : found), null);
      return best ? best[3] : label;
    }
  }

  return { of: (panel) => (panel.cells ? new Heat(panel) : panel.lanes ? new Lanes(panel) : null) };
})();
