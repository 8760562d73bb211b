// The form of the plan: reads its fields, marks those that break a rule, and shows what planner.js works out.
// Without a script the form stays hidden, and the plan that was asked for stands there as it was written.
"use strict";
(() => {
  const root = document.getElementById("what-if");
  const form = root.querySelector("form");
  const told = root.querySelector("[role=status]");
  const body = root.querySelector("tbody");
  const table = root.querySelector(".planned");
  const node = Number(root.dataset.nodeRate);
  const fields = [...form.querySelectorAll("input")];
  const touched = new Set();

  const value = (name) => {
    const read = Planning.read(form.elements[name].value);
    return name === "growth" && read !== null ? read / 100 : read;
  };

  function mark(field, wrong) {
    const rule = document.getElementById(`${field.id}-rule`);
    rule.hidden = !wrong;
    if (wrong) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
  }

  function row([name, figure]) {
    const made = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    const cell = document.createElement("td");
    cell.textContent = figure;
    made.append(head, cell);
    return made;
  }

  function show(sentence, rows) {
    told.textContent = sentence;
    body.replaceChildren(...rows.map(row));
    table.hidden = !rows.length;
  }

  function update() {
    const values = Object.fromEntries(fields.map((field) => [field.name, value(field.name)]));
    const wrong = Planning.broken(values);
    const missing = fields.filter((field) => field.required && values[field.name] === null);
    for (const field of fields) mark(field, wrong.includes(field.name) || (missing.includes(field) && touched.has(field)));
    if (wrong.length) return show("No plan: a field breaks its rule.", []);
    if (missing.length) return show(`For a plan fill in: ${missing.map((f) => f.labels[0].textContent).join(", ")}.`, []);
    const price = values.per_hour === null ? null : { per_hour: values.per_hour, currency: root.dataset.currency };
    const plan = Planning.nodePlan(values, node, price);
    show(Planning.sentence(values, plan), Planning.rows(values, plan, price));
  }

  form.addEventListener("input", (event) => {
    touched.add(event.target);
    update();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update();
})();
