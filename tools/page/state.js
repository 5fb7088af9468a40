// The current search. All of it except the uploaded photo is also in the address bar, so that a link
// repeats it. The page is drawn from `state`. Other modules change it through the functions below;
// only a moving slider and an upload set it themselves.

import { request } from "./api.js";

export const PAGE_SIZE = 24; // results at first, and for each "Show more"
export const MOST_RESULTS = 192;

export const state = {
  query: null, // { key } of a stored garment, { handle } of an uploaded one
  weights: {}, // aspect -> 0..1
  categories: new Set(), // filters; an empty set passes everything
  attributes: new Map(), // name -> set of values
  k: PAGE_SIZE, // number of results
  upload: null, // the last photo: { url, answer of /api/detect, end of its handles in ms }
};

export let stats = null; // of the server and its database; null until they are loaded
export async function loadStats() {
  stats = await request("/api/stats");
}

let draw;
// `listener(queryChanged)` is called after every change, to draw the page.
export function onChange(listener) {
  draw = listener;
}

export function setQuery(query, { replace = false } = {}) {
  state.query = query;
  state.k = PAGE_SIZE;
  history[replace ? "replaceState" : "pushState"](null, "", address());
  draw(true);
}

function changed() {
  saveAddress();
  draw(false);
}

export function setFilter(values, value, on) {
  values[on ? "add" : "delete"](value);
  state.k = PAGE_SIZE;
  changed();
}

export function clearFilters() {
  state.categories.clear();
  state.attributes.clear();
  state.k = PAGE_SIZE;
  changed();
}

export function resetWeights() {
  for (const aspect of stats.aspects) state.weights[aspect] = 1;
  changed();
}

export function showMore() {
  state.k = Math.min(state.k + PAGE_SIZE, MOST_RESULTS);
  changed();
}

// The filter's values of an attribute.
export function valuesOf(attribute) {
  if (!state.attributes.has(attribute)) state.attributes.set(attribute, new Set());
  return state.attributes.get(attribute);
}

// The address bar: ?key=…&w.color=0.5&category=top&a.pattern=striped&k=48, without defaults.

export const saveAddress = () => history.replaceState(null, "", address());

function address() {
  const params = new URLSearchParams();
  if (state.query) params.set(...Object.entries(state.query)[0]);
  for (const [aspect, weight] of Object.entries(state.weights)) if (weight !== 1) params.set(`w.${aspect}`, weight);
  for (const category of state.categories) params.append("category", category);
  for (const [name, values] of state.attributes) for (const value of values) params.append(`a.${name}`, value);
  if (state.k !== PAGE_SIZE) params.set("k", state.k);
  const text = params.toString();
  return text ? `?${text}` : location.pathname;
}

export function openAddress() {
  const params = new URLSearchParams(location.search);
  const key = params.get("key");
  const handle = params.get("handle");
  state.query = key !== null ? { key } : handle !== null ? { handle } : null;
  state.k = Math.min(Math.max(parseInt(params.get("k"), 10) || PAGE_SIZE, 1), MOST_RESULTS);
  for (const aspect of stats.aspects) {
    const weight = parseFloat(params.get(`w.${aspect}`) ?? "1");
    state.weights[aspect] = weight >= 0 && weight <= 1 ? weight : 1;
  }
  state.categories = new Set(params.getAll("category"));
  state.attributes = new Map();
  for (const [name, value] of params) if (name.startsWith("a.")) valuesOf(name.slice(2)).add(value);
  draw(true);
}
