// Above the results: a slider for each aspect's weight, the filters, and the filters in force.

import { $, labelText, make, setHue, spaced } from "./dom.js";
import { refresh } from "./results.js";
import { resetWeights, saveAddress, setFilter, state, stats, valuesOf } from "./state.js";

const MOST_VALUES = 80; // a filter shows at once; typing finds the others

export function drawControls() {
  drawSliders();
  drawFilters();
  drawFiltersInForce();
}

function drawSliders() {
  const box = $("sliders");
  if (!box.children.length) box.append(...stats.aspects.map(makeSlider));
  for (const aspect of stats.aspects) {
    const input = $(`weight-${aspect}`);
    input.value = state.weights[aspect];
    input.previousElementSibling.value = state.weights[aspect];
  }
}

function makeSlider(aspect) {
  const input = make("input", { type: "range", id: `weight-${aspect}`, min: 0, max: 1, step: 0.05 });
  const number = make("output", { for: input.id });
  const slider = make("div", { class: "slider" }, make("label", { for: input.id }, aspect), number, input);
  setHue(slider, aspect);
  input.oninput = () => {
    state.weights[aspect] = Number(input.value);
    number.value = input.value;
    refresh();
  };
  input.onchange = saveAddress; // not while it moves: browsers limit how often the address changes
  return slider;
}

$("even").onclick = resetWeights;

// Filters.

function drawFilters() {
  const box = $("filters");
  if (!box.children.length) box.append(...makeFilters());
  box.hidden = !box.children.length || !state.query;
  for (const one of box.children) one.refresh();
}

function makeFilters() {
  const groups = [["category", stats.categories, () => state.categories]];
  for (const [name, values] of Object.entries(stats.attributes)) groups.push([name, values, () => valuesOf(name)]);
  return groups.filter(([, values]) => Object.keys(values).length > 1).map((group) => makeFilter(...group));
}

// `counts`: value -> number of items; `selected()`: the set of selected values.
function makeFilter(name, counts, selected) {
  const sorted = Object.entries(counts).sort((one, other) => other[1] - one[1]);
  const options = make("div", {});
  const draw = (text) => {
    const found = sorted.filter(([value]) => value.toLowerCase().includes(text.trim().toLowerCase())).slice(0, MOST_VALUES);
    options.replaceChildren(...found.map(([value, count]) => {
      const input = make("input", { type: "checkbox", value, checked: selected().has(value) });
      input.onchange = () => setFilter(selected(), value, input.checked);
      return make("label", {}, input, value, make("span", { class: "number" }, count.toLocaleString()));
    }));
    if (!found.length) options.textContent = "Nothing with this name";
  };
  draw("");
  const list = make("div", { class: "options", role: "group", "aria-label": spaced(name) }, options);
  if (sorted.length > MOST_VALUES) {
    const find = `Find one of ${sorted.length.toLocaleString()}`;
    const field = make("input", { type: "search", placeholder: find, "aria-label": find });
    field.oninput = () => draw(field.value);
    list.prepend(field);
  }
  const number = make("span", { class: "count" });
  const filter = make("details", { class: "filter" }, make("summary", {}, spaced(name), number), list);
  filter.refresh = () => {
    for (const input of options.querySelectorAll("input")) input.checked = selected().has(input.value);
    number.textContent = selected().size || "";
    number.hidden = !selected().size;
  };
  return filter;
}

function drawFiltersInForce() {
  const inForce = [...state.categories].map((value) => [state.categories, value, value]);
  for (const [name, values] of state.attributes) {
    for (const value of values) inForce.push([values, value, labelText(name, value)]);
  }
  $("chosen").hidden = !inForce.length || !state.query;
  $("chosen").replaceChildren(...inForce.map(([values, value, text]) => {
    const button = make("button", { type: "button", "aria-label": `Remove the filter ${text}` }, `${text} ×`);
    button.onclick = () => {
      setFilter(values, value, false);
      $("results-title").focus();
    };
    return button;
  }));
}

function closeFilters(except) {
  for (const one of document.querySelectorAll(".filter[open]")) if (one !== except) one.open = false;
}

addEventListener("click", (event) => closeFilters(event.target.closest?.(".filter")));
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = document.querySelector(".filter[open]");
  closeFilters();
  open?.querySelector("summary").focus();
});
