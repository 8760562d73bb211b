// Nodes for a need, and what they cost: the twin of reports/planning.py, figure for figure and word for word.
// tests/reports/test_planning.py runs one table of cases through both. No document is needed here.
"use strict";
const Planning = (() => {
  const MONTH_H = 730;
  const NOISE = 1e-12;
  const NBSP = "\u00a0";
  const RULES = {
    node_deliveries_per_s: { low: 1e-3, high: 1e9 },
    peak_deliveries_per_s: { low: 0, high: 1e9, above: true },
    growth: { low: 0, high: 10 },
    spare: { low: 0, high: 1000, whole: true },
    per_hour: { low: 1e-4, high: 1e5 },
  };

  const holds = ({ low, high, above, whole }, x) =>
    Number.isFinite(x) && (above ? x > low : x >= low) && x <= high && (!whole || Number.isInteger(x));

  // Names of those that break their rule; a price may be null.
  const broken = (values) =>
    Object.keys(RULES).filter((name) => (values[name] ?? null) !== null && !holds(RULES[name], values[name]));

  function nodePlan(need, node, price) {
    const peak = need.peak_deliveries_per_s;
    const grown = peak * (1 + need.growth);
    const nodes = Math.max(1, Math.ceil((grown / node) * (1 - NOISE)));
    const total = nodes + need.spare;
    const hour = price && total * price.per_hour;
    return {
      nodes,
      total,
      share: peak / (total * node),
      share_down: peak / (nodes * node),
      grown_share: grown / (total * node),
      grown_share_down: grown / (nodes * node),
      cost_per_hour: hour,
      cost_per_month: price && hour * MONTH_H,
    };
  }

  // Words. Figures are rounded as Python rounds them: by their exact value, a tie to the even digit.

  const BEYOND = 30; // digits that tell a tie from what is near one
  function fixed(x, digits) {
    const exact = x.toFixed(digits + BEYOND);
    const kept = exact.slice(0, -BEYOND).replace(/\.$/, "");
    const tie = exact.slice(-BEYOND) === `5${"0".repeat(BEYOND - 1)}`;
    return tie && Number(kept.at(-1)) % 2 === 0 ? kept : x.toFixed(digits);
  }
  function grouped(x, digits) {
    const [whole, rest] = fixed(x, digits).split(".");
    return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? `.${rest}` : "");
  }
  const count = (n) => grouped(n, 0);
  function decimal(x) {
    const size = Math.abs(x);
    if (size >= 100 || x === 0) return grouped(x, 0);
    const digits = size >= 0.001 ? 2 - Math.floor(Math.log10(size)) : 3;
    return grouped(x, Math.max(0, Math.min(digits, 4)));
  }
  const money = (x) => (x >= 100 || x < 0.1 ? decimal(x) : fixed(x, 2)); // two decimals below a hundred
  const written = (x) => grouped(x, 4).replace(/\.?0+$/, ""); // as it was given
  const share = (x) => `${decimal(x * 100)}${NBSP}%`;

  function sentence(need, plan) {
    const nodes = `${count(plan.nodes)} node${plan.nodes === 1 ? "" : "s"}`;
    const spare = need.spare ? `, and ${count(plan.total)} so that ${count(need.spare)} may fail` : "";
    return `For ${decimal(need.peak_deliveries_per_s)} deliveries/s at the peak and ${written(need.growth * 100)}${NBSP}% of growth: ${nodes}${spare}.`;
  }

  function rows(need, plan, price) {
    const made = [];
    const used = (name, all, down) => {
      made.push([name, share(all)]);
      if (need.spare) made.push([`${name}, with ${count(need.spare)} gone`, share(down)]);
    };
    used("used of each node at the peak", plan.share, plan.share_down);
    if (need.growth) used("used of each node after the growth", plan.grown_share, plan.grown_share_down);
    if (price) {
      const unit = price.currency ? NBSP + price.currency : "";
      made.push([`cost an hour, ${written(price.per_hour)}${unit} a node`, money(plan.cost_per_hour) + unit]);
      made.push([`cost a month of ${MONTH_H} h`, money(plan.cost_per_month) + unit]);
    }
    return made;
  }

  // What was typed: null for nothing, NaN for no number. 400,000 and 400 000 are one number; 0,34 is none,
  // since it may be meant as 0.34.
  function read(text) {
    const bare = text.trim().replace(/[\s\u00a0\u202f]+(?=\d{3}(?!\d))/g, ",");
    if (bare === "") return null;
    const plain = /^[1-9]\d{0,2}(,\d{3})+(\.\d+)?$/.test(bare) ? bare.replaceAll(",", "") : bare;
    return /^(\d+(\.\d*)?|\.\d+)(e\d{1,2})?$/i.test(plain) ? Number(plain) : NaN;
  }

  return { broken, nodePlan, sentence, rows, read };
})();
