// The search page. The current search is in `state` and in the address bar, and everything on the
// page is drawn from it. All requests go to this server.
"use strict";

const $ = (id) => document.getElementById(id);
const STEP = 24; // results at first, and for each "Show more"
const MOST = 192;
const MOST_VALUES = 80; // a filter shows at once; typing finds the others
const SLOW = 4000; // milliseconds after which waiting is explained

const state = { query: null, weights: {}, categories: new Set(), attributes: new Map(), k: STEP };
let stats = null;
let upload = null; // the last photo: { url, answer }
let cards = new Map(); // key -> card, so that re-ranking moves cards instead of making new ones

class Failure extends Error {
  constructor(text, status = 0) {
    super(text);
    this.status = status;
  }
}

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "for") element.setAttribute(name, value);
    else element[name === "class" ? "className" : name] = value;
  }
  element.append(...children);
  return element;
}

// Requests to the server.

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  for (let tries = 0; ; tries++) {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch {
      throw new Failure("The server does not respond. Is it still running?");
    }
    if (await tryAgain(answer.status, answer.headers.get("Retry-After"), tries)) continue;
    return read(answer.status, await answer.text());
  }
}

async function tryAgain(status, wait, tries) {
  if (status === 401) {
    await logIn();
    return true;
  }
  if (status !== 503 || tries >= 3) return false;
  await new Promise((done) => setTimeout(done, 1000 * Math.min(Number(wait) || 1, 30)));
  return true;
}

function read(status, text) {
  let answer = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    throw new Failure("The server sent an invalid response. Reload the page", status);
  }
  if (status < 200 || status > 299) throw new Failure(answer?.detail ?? `Error ${status}`, status);
  return answer;
}

async function send(file) {
  for (let tries = 0; ; tries++) {
    const request = await sendOnce(file);
    const wait = request.getResponseHeader("Retry-After");
    if (request.status === 503) say("The server is busy. Waiting for a turn…");
    if (!(await tryAgain(request.status, wait, tries))) return read(request.status, request.responseText);
  }
}

// XMLHttpRequest, because fetch() does not report upload progress.
function sendOnce(file) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/api/detect");
    request.setRequestHeader("Content-Type", file.type.startsWith("image/") ? file.type : "image/*");
    request.upload.onprogress = (event) => {
      if (event.lengthComputable && event.loaded < event.total) say("Sending the photo…", event.loaded / event.total);
    };
    request.upload.onload = () => say("Looking for garments…");
    request.onload = () => done(request);
    request.onerror = () => fail(new Failure("The photo could not be sent. Is the server still running?"));
    request.send(file);
  });
}

let asking = null;
function logIn() {
  asking ??= new Promise((done) => {
    $("login-form").onsubmit = async (event) => {
      event.preventDefault();
      const answer = await fetch("/api/session", {
        method: "POST", headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ token: $("token").value }),
      }).catch(() => null);
      if (!answer?.ok) {
        $("login-error").textContent = answer ? "That is not the token." : "The server does not respond.";
        return;
      }
      $("token").value = $("login-error").textContent = "";
      asking = null;
      $("login").close();
      done();
    };
    // If closed by Escape, the dialog reopens, because pending requests need the token.
    $("login").onclose = () => asking && $("login").showModal();
    $("login").showModal();
  });
  return asking;
}

// Uploading a photo.

let slow = 0;
function say(text, share) {
  $("work").hidden = false;
  $("work-text").textContent = text;
  if (share === undefined) $("progress").removeAttribute("value");
  else $("progress").value = share;
}

function complain(text) {
  $("trouble-text").textContent = text;
  $("trouble").hidden = !text;
}

let turn = 0;
async function take(file) {
  if (!file) return;
  complain("");
  await started; // a photo may be dropped before the server's limits are known
  if (!stats) return complain("The server did not respond. Reload the page.");
  if (!stats.uploads.possible) return complain("This server accepts no photos. Start from a stored garment.");
  const most = stats.uploads.most_bytes;
  if (file.size > most) return complain(`The photo is larger than ${Math.floor(most / 2 ** 20)} MiB. Choose a smaller one.`);
  const mine = ++turn;
  const url = URL.createObjectURL(file);
  say("Sending the photo…", 0);
  preview(url);
  clearTimeout(slow);
  slow = setTimeout(() => say("Still looking. A busy server or a large photo takes a little longer…"), SLOW);
  try {
    const answer = await send(file);
    if (mine !== turn) return; // another photo was chosen meanwhile
    if (upload) URL.revokeObjectURL(upload.url);
    upload = { url, answer, end: Date.now() + 1000 * answer.expires_in };
    // Most people search for the largest garment.
    const largest = answer.garments.reduce((one, other) => (area(other) > area(one) ? other : one));
    go({ handle: largest.handle });
  } catch (error) {
    if (mine !== turn) return;
    complain(error.message);
    drawQuery();
  } finally {
    if (upload?.url !== url) URL.revokeObjectURL(url); // else the browser keeps the photo in memory
    if (mine === turn) {
      clearTimeout(slow);
      $("work").hidden = true;
    }
  }
}

function preview(url) {
  show(url, "The photo being searched for garments");
  $("stage").hidden = false;
  $("photo").parentElement.classList.add("working");
  $("caption").textContent = "";
  $("outlines").replaceChildren();
  $("garments").hidden = $("facts").hidden = true;
}

function show(url, about, size) {
  const photo = $("photo");
  photo.parentElement.classList.remove("stored", "working");
  photo.hidden = false;
  if (photo.getAttribute("src") !== url) photo.src = url;
  photo.alt = about;
  // Set before the picture has loaded, so that outlines are in the right place at once.
  photo.style.aspectRatio = size ? `${size.width} / ${size.height}` : "auto";
}

// The state and the address bar.

function address() {
  const parts = new URLSearchParams();
  if (state.query) parts.set(...Object.entries(state.query)[0]);
  for (const [aspect, weight] of Object.entries(state.weights)) if (weight !== 1) parts.set(`w.${aspect}`, weight);
  for (const category of state.categories) parts.append("category", category);
  for (const [name, values] of state.attributes) for (const value of values) parts.append(`a.${name}`, value);
  if (state.k !== STEP) parts.set("k", state.k);
  const text = parts.toString();
  return text ? `?${text}` : location.pathname;
}

function readAddress() {
  const parts = new URLSearchParams(location.search);
  const key = parts.get("key");
  const handle = parts.get("handle");
  state.query = key !== null ? { key } : handle !== null ? { handle } : null;
  state.k = Math.min(Math.max(parseInt(parts.get("k"), 10) || STEP, 1), MOST);
  state.categories = new Set(parts.getAll("category"));
  state.attributes = new Map();
  for (const aspect of stats.aspects) {
    const weight = parseFloat(parts.get(`w.${aspect}`) ?? "1");
    state.weights[aspect] = weight >= 0 && weight <= 1 ? weight : 1;
  }
  for (const [name, value] of parts) if (name.startsWith("a.")) valuesOf(name.slice(2)).add(value);
}

function valuesOf(attribute) {
  if (!state.attributes.has(attribute)) state.attributes.set(attribute, new Set());
  return state.attributes.get(attribute);
}

function go(query, { replace = false } = {}) {
  state.query = query;
  state.k = STEP;
  history[replace ? "replaceState" : "pushState"](null, "", address());
  draw();
}

const remember = () => history.replaceState(null, "", address());

function draw() {
  drawSliders();
  drawFilters();
  drawQuery();
  refresh();
}

// The query.

function drawQuery() {
  const garment = upload?.answer.garments.find((one) => one.handle === state.query?.handle);
  $("drop").classList.toggle("compact", Boolean(state.query));
  $("drop-text").textContent = state.query ? "Drop another photo" : "Search with a photo of an outfit";
  $("photo").parentElement.classList.remove("working");
  $("tuning").hidden = !state.query;
  $("share").hidden = !state.query;
  $("garments").hidden = !garment || upload.answer.whole_photo;
  $("stage").hidden = !state.query;
  $("facts").hidden = true;
  $("outlines").replaceChildren();
  if (garment) drawUpload(garment);
  else if (state.query?.key !== undefined) drawStored(state.query.key);
  else if (state.query) {
    $("photo").hidden = true;
    $("caption").textContent = "A garment of an uploaded photo. The photo itself was not kept.";
    document.title = "Photo · Weft";
  }
}

function drawUpload(chosen) {
  const { url, answer, end } = upload;
  show(url, "The uploaded photo", answer);
  const until = new Date(end).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  $("caption").textContent =
    (answer.whole_photo ? "No garment was recognized, so the whole photo is the query. " : "") +
    `Not stored: the server keeps this photo's garments until ${until}. Links work until then.`;
  drawOutlines(answer, chosen);
  drawGarments(answer, chosen);
  drawFacts(chosen.colors, Object.entries(chosen.labels).map(([group, values]) => [
    group === "category" && chosen.category ? "described category" : group,
    likely(values).map((one) => `${one.value} ${percent(one.probability)}`).join(", "),
  ]));
  document.title = `${chosen.category ?? "Photo"} · Weft`;
}

const area = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
const plain = (name) => name.replaceAll("_", " ");
// A label that has no values is stored as an attribute of that name, with "yes".
const word = (name, value) => (value === "yes" ? plain(name) : value);
const likely = (values) => values.filter((one, i) => i === 0 || (i === 1 && one.probability >= 0.05));
const percent = (share) => `${Math.round(100 * share)} %`;
const SVG = "http://www.w3.org/2000/svg";

function drawOutlines(answer, chosen) {
  const svg = $("outlines");
  svg.setAttribute("viewBox", `0 0 ${answer.width} ${answer.height}`);
  // Small garments are drawn on top, so that each can be clicked.
  const sorted = [...answer.garments].sort((one, other) => area(other) - area(one));
  for (const garment of sorted) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", garment.outline.map((ring) => `M${ring.map((p) => p.join(" ")).join("L")}Z`).join(""));
    path.setAttribute("fill-rule", "evenodd");
    path.classList.toggle("chosen", garment === chosen);
    path.dataset.handle = garment.handle;
    path.onclick = () => choose(garment.handle);
    light(path, garment.handle);
    svg.append(path);
  }
}

function light(element, handle) {
  const set = (on) => () => {
    for (const one of document.querySelectorAll("[data-handle]")) one.classList.toggle("hot", on && one.dataset.handle === handle);
  };
  element.addEventListener("pointerenter", set(true));
  element.addEventListener("pointerleave", set(false));
}

function choose(handle) {
  go({ handle }, { replace: true });
  document.querySelector(`input[name=garment][value="${handle}"]`)?.focus({ preventScroll: true });
}

function drawGarments(answer, chosen) {
  const list = $("garment-list");
  if (list.dataset.of !== upload.url) {
    list.dataset.of = upload.url;
    list.replaceChildren(...answer.garments.map((garment) => {
      const radio = make("input", { type: "radio", name: "garment", value: garment.handle });
      radio.onchange = () => go({ handle: garment.handle }, { replace: true });
      const sure = make("span", { class: "sure" }, garment.score === null ? "" : percent(garment.score));
      const chip = make("label", { class: "chip" }, radio, garment.category ?? "photo", sure);
      chip.dataset.handle = garment.handle;
      light(chip, garment.handle);
      return chip;
    }));
  }
  for (const radio of list.querySelectorAll("input")) radio.checked = radio.value === chosen.handle;
}

function drawFacts(colors, rows) {
  const swatches = colors.map((color) => {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = color.hex;
    return make("li", {}, swatch, `${color.name} ${percent(color.share)}`);
  });
  const lines = rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, plain(name)), make("td", {}, value)));
  $("facts").replaceChildren(
    ...(swatches.length ? [make("ul", { class: "swatches", "aria-label": "Colors" }, ...swatches)] : []),
    ...(lines.length ? [make("table", { class: "labels-table", "aria-label": "Labels" }, make("tbody", {}, ...lines))] : []),
  );
  $("facts").hidden = !swatches.length && !lines.length;
}

async function drawStored(key) {
  show(picture(key, 640), "The stored garment that is searched for");
  $("photo").parentElement.classList.add("stored");
  $("photo").hidden = !stats.photos;
  $("caption").textContent = key;
  try {
    const item = await ask(`/api/items/${encodeURIComponent(key)}`);
    if (state.query?.key !== key) return;
    const rows = item.category ? [["category", item.category]] : [];
    drawFacts(item.extra.colors instanceof Array ? colorsOf(item.extra.colors) : [], [...rows, ...Object.entries(item.attributes)]);
    document.title = `${item.category ?? key} · Weft`;
  } catch (error) {
    if (state.query?.key === key && error.status !== 404) complain(error.message);
  }
}

// `extra` may hold anything; only a valid list of colors is drawn.
const colorsOf = (list) => list.filter((one) => /^#[0-9a-f]{6}$/.test(one?.hex) && typeof one.share === "number");

const picture = (key, size) => `/api/photo/${encodeURIComponent(key)}?size=${size}`;

// Sliders.

function drawSliders() {
  const box = $("sliders");
  if (!box.children.length) {
    box.append(...stats.aspects.map((aspect) => {
      const input = make("input", { type: "range", id: `weight-${aspect}`, min: 0, max: 1, step: 0.05 });
      const number = make("output", { for: input.id });
      const row = make("div", { class: "slider" }, make("label", { for: input.id }, aspect), number, input);
      tint(row, aspect);
      input.oninput = () => {
        state.weights[aspect] = Number(input.value);
        number.value = input.value;
        refresh();
      };
      input.onchange = remember;
      return row;
    }));
  }
  for (const aspect of stats.aspects) {
    const input = $(`weight-${aspect}`);
    input.value = state.weights[aspect];
    input.previousElementSibling.value = state.weights[aspect];
  }
}

const tint = (element, aspect) => element.style.setProperty("--hue", `var(--${aspect}, var(--accent))`);

// Filters.

function drawFilters() {
  const box = $("filters");
  if (!box.children.length) box.append(...filters());
  box.hidden = !box.children.length || !state.query;
  for (const one of box.children) one.refresh();
  drawChosen();
}

function filters() {
  const groups = [["category", stats.categories, () => state.categories]];
  for (const [name, values] of Object.entries(stats.attributes)) groups.push([name, values, () => valuesOf(name)]);
  return groups.filter(([, values]) => Object.keys(values).length > 1).map((group) => filter(...group));
}

function filter(name, values, picked) {
  const sorted = Object.entries(values).sort((one, other) => other[1] - one[1]);
  const options = make("div", {});
  const draw = (text) => {
    const found = sorted.filter(([value]) => value.toLowerCase().includes(text.trim().toLowerCase())).slice(0, MOST_VALUES);
    options.replaceChildren(...found.map(([value, number]) => {
      const input = make("input", { type: "checkbox", value, checked: picked().has(value) });
      input.onchange = () => {
        picked()[input.checked ? "add" : "delete"](value);
        filtersChanged();
      };
      return make("label", {}, input, value, make("span", { class: "number" }, number.toLocaleString()));
    }));
    if (!found.length) options.textContent = "Nothing with this name";
  };
  draw("");
  const list = make("div", { class: "options", role: "group", "aria-label": plain(name) }, options);
  if (sorted.length > MOST_VALUES) {
    const find = `Find one of ${sorted.length.toLocaleString()}`;
    const field = make("input", { type: "search", placeholder: find, "aria-label": find });
    field.oninput = () => draw(field.value);
    list.prepend(field);
  }
  const count = make("span", { class: "count" });
  const details = make("details", { class: "filter" }, make("summary", {}, plain(name), count), list);
  details.refresh = () => {
    for (const input of options.querySelectorAll("input")) input.checked = picked().has(input.value);
    count.textContent = picked().size || "";
    count.hidden = !picked().size;
  };
  return details;
}

function drawChosen() {
  const chosen = [...state.categories].map((value) => [state.categories, value, value]);
  for (const [name, values] of state.attributes) for (const value of values) chosen.push([values, value, word(name, value)]);
  $("chosen").hidden = !chosen.length || !state.query;
  $("chosen").replaceChildren(...chosen.map(([values, value, text]) => {
    const button = make("button", { type: "button", "aria-label": `Remove the filter ${text}` }, `${text} ×`);
    button.onclick = () => {
      values.delete(value);
      filtersChanged();
      $("results-title").focus();
    };
    return button;
  }));
}

function filtersChanged() {
  state.k = STEP;
  remember();
  drawFilters();
  refresh();
}

function clearFilters() {
  state.categories.clear();
  state.attributes.clear();
  filtersChanged();
}

// Results. One request at a time; while it runs, only the newest further one is kept.

let running = false;
let again = false;
async function refresh() {
  if (running) {
    again = true;
    return;
  }
  running = true;
  do {
    again = false;
    await search();
  } while (again);
  running = false;
}

async function search() {
  if (!state.query) return showExamples();
  $("results-title").textContent = "Similar garments";
  const weights = Object.fromEntries(Object.entries(state.weights).filter(([, weight]) => weight > 0));
  if (!Object.keys(weights).length) return showNothing("All weights are 0", "Move at least one slider up.", "Reset", resetWeights);
  const attributes = Object.fromEntries([...state.attributes].map(([name, values]) => [name, [...values]]));
  const wanted = { ...state.query, weights, categories: [...state.categories], attributes, k: state.k };
  const waiting = setTimeout(() => $("results").classList.add("busy"), 300);
  const started = performance.now();
  try {
    const { hits } = await ask("/api/search", wanted);
    const spent = Math.round(performance.now() - started);
    showHits(hits, weights, spent);
  } catch (error) {
    showSearchError(error);
  } finally {
    clearTimeout(waiting);
    $("results").classList.remove("busy");
  }
}

function showSearchError(error) {
  if (error.status === 410) showNothing("This upload has expired", "Uploaded photos are not kept. Drop the photo again.", "Choose a photo", () => $("file").click());
  else if (error.status === 404) showNothing("This garment is no longer in the database", "It may have been removed since the link was made.", "Start again", startAgain);
  else showNothing("The search did not work", error.message, "Try again", refresh);
}

const startAgain = () => go(null);

function showHits(hits, weights, spent) {
  const filtered = state.categories.size || [...state.attributes.values()].some((values) => values.size);
  if (!hits.length && filtered) return showNothing("Nothing passes these filters", "Remove a filter to find more.", "Clear filters", clearFilters);
  if (!hits.length) return showNothing("The database holds no other garment", "Add photos with tools/build_database.py.");
  $("nothing").hidden = true;
  $("status").textContent = `the ${hits.length} most similar, in ${spent} ms`;
  place(hits.map((hit) => {
    const card = cardOf(hit.item);
    card.score.textContent = hit.score.toFixed(2);
    card.score.title = "Weighted mean of the bars below";
    drawBars(card, hit.aspects, weights);
    return card;
  }));
  $("more").hidden = hits.length < state.k || state.k >= MOST;
}

function showNothing(text, hint, action, act) {
  place([]);
  $("nothing").hidden = false;
  $("nothing-text").textContent = text;
  $("nothing-hint").textContent = hint;
  $("nothing-action").hidden = !action;
  $("nothing-action").textContent = action ?? "";
  $("nothing-action").onclick = act;
  $("status").textContent = "";
  $("more").hidden = true;
}

async function showExamples() {
  $("results-title").textContent = "Start from one of these";
  document.title = "Weft: search garments by looks";
  if (!stats.items) return showNothing("The database is empty", "Add photos with tools/build_database.py, then reload.");
  const items = await Promise.all(stats.examples.map((key) => ask(`/api/items/${encodeURIComponent(key)}`).catch(() => null)));
  if (state.query) return;
  $("nothing").hidden = true;
  $("status").textContent = "";
  $("more").hidden = true;
  place(items.filter(Boolean).map((item) => {
    const card = cardOf(item);
    card.score.textContent = "";
    card.bars.replaceChildren();
    return card;
  }));
}

function cardOf(item) {
  let card = cards.get(item.key);
  if (card) return card;
  const title = item.category ?? "garment";
  // The title is the item's category; the model's predicted one beside it would only confuse.
  const { described_category: _, ...attributes } = item.attributes;
  const what = Object.entries(attributes).map(([name, value]) => word(name, value)).join(" · ");
  const pick = make("button", { type: "button", class: "pick", "aria-label": `Search with this: ${title} ${what}` });
  pick.onclick = () => {
    go({ key: item.key });
    scrollTo({ top: 0 });
    $("results-title").focus({ preventScroll: true });
  };
  const bare = () => {
    pick.classList.add("bare");
    pick.replaceChildren("No picture");
  };
  if (stats.photos) {
    const image = make("img", { src: picture(item.key, 320), alt: "", loading: "lazy", decoding: "async" });
    image.onerror = bare;
    pick.append(image, make("span", { class: "hint" }, "More like this"));
  } else bare();
  const score = make("span", { class: "score" });
  const bars = make("ul", { class: "bars", "aria-label": "Similarity" });
  const name = make("p", { class: "name" }, make("span", { title }, title), score);
  const body = make("div", { class: "body" }, name, make("p", { class: "what", title: what }, what), bars);
  card = { element: make("li", { class: "card" }, pick, body), score, bars };
  card.element.dataset.key = item.key;
  cards.set(item.key, card);
  return card;
}

function drawBars(card, aspects, weights) {
  if (!card.bars.children.length) {
    card.bars.append(...stats.aspects.map((aspect) => {
      const row = make("li", {}, make("span", {}, aspect), make("span", { class: "track" }, make("div", { class: "fill" })), make("b"));
      tint(row, aspect);
      return row;
    }));
  }
  stats.aspects.forEach((aspect, i) => {
    const row = card.bars.children[i];
    row.querySelector(".fill").style.width = percent(Math.min(Math.max(aspects[aspect], 0), 1)).replace(" ", "");
    row.lastChild.textContent = aspects[aspect].toFixed(2);
    row.classList.toggle("off", !(aspect in weights));
  });
}

// Cards that remain move smoothly to their new places.
function place(wanted) {
  const box = $("results");
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches || wanted.length > 2 * STEP;
  const before = new Map([...box.children].map((one) => [one, still ? null : one.getBoundingClientRect()]));
  const focused = document.activeElement;
  box.replaceChildren(...wanted.map((card) => card.element));
  box.removeAttribute("aria-busy");
  if (focused !== document.activeElement && box.contains(focused)) focused.focus({ preventScroll: true });
  cards = new Map(wanted.map((card) => [card.element.dataset.key, card]));
  if (still) return;
  for (const { element } of wanted) {
    const from = before.get(element);
    const to = element.getBoundingClientRect();
    if (from && (from.x !== to.x || from.y !== to.y)) {
      element.animate([{ transform: `translate(${from.x - to.x}px, ${from.y - to.y}px)` }, {}], { duration: 220, easing: "ease-out" });
    } else if (!from) element.animate([{ opacity: 0 }, {}], { duration: 160 });
  }
}

function resetWeights() {
  for (const aspect of stats.aspects) state.weights[aspect] = 1;
  remember();
  drawSliders();
  refresh();
}

// Event handlers and startup.

function listen() {
  $("choose").onclick = () => $("file").click();
  $("camera").onclick = () => $("shot").click();
  for (const input of [$("file"), $("shot")]) {
    input.onchange = () => {
      take(input.files[0]);
      input.value = "";
    };
  }
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("veil").hidden = !event.dataTransfer.types.includes("Files");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("veil").hidden = true;
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("veil").hidden = true;
    take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file) take(file);
  });
  addEventListener("popstate", () => {
    readAddress();
    draw();
  });
  addEventListener("click", (event) => closeFilters(event.target.closest?.(".filter")));
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const open = document.querySelector(".filter[open]");
    closeFilters();
    open?.querySelector("summary").focus();
  });
  $("photo").onerror = () => {
    $("photo").hidden = true;
  };
  $("trouble-close").onclick = () => complain("");
  $("even").onclick = resetWeights;
  $("share").onclick = share;
  $("more").onclick = () => {
    state.k = Math.min(state.k + STEP, MOST);
    remember();
    refresh();
  };
}

function closeFilters(except) {
  for (const one of document.querySelectorAll(".filter[open]")) if (one !== except) one.open = false;
}

async function share() {
  remember();
  try {
    await navigator.clipboard.writeText(location.href);
    $("status").textContent = "Link copied";
  } catch {
    $("status").textContent = "Copy the address from the address bar";
  }
}

async function start() {
  listen();
  $("results").setAttribute("aria-busy", "true");
  $("results").append(...Array.from({ length: 8 }, () => make("li", { class: "card ghost", "aria-hidden": "true" })));
  try {
    stats = await ask("/api/stats");
  } catch (error) {
    return showNothing("The server does not respond properly", error.message, "Reload", () => location.reload());
  }
  $("size").textContent = `${stats.items.toLocaleString()} garment${stats.items === 1 ? "" : "s"}`;
  $("drop").hidden = !stats.uploads.possible;
  $("no-uploads").hidden = stats.uploads.possible;
  readAddress();
  draw();
}

const started = start();
