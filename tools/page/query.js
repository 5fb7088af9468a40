// The left column: the garment that is searched for, on its photo, with its colors and labels.

import { request } from "./api.js";
import { $, make, percent, pictureUrl, showError, spaced } from "./dom.js";
import { setQuery, state, stats } from "./state.js";

const SVG = "http://www.w3.org/2000/svg";

export function drawQuery() {
  const { query, upload } = state;
  const garment = upload?.answer.garments.find((one) => one.handle === query?.handle);
  $("drop").classList.toggle("compact", Boolean(query));
  $("drop-text").textContent = query ? "Drop another photo" : "Search with a photo of an outfit";
  $("tuning").hidden = $("share").hidden = $("stage").hidden = !query;
  $("garments").hidden = !garment || upload.answer.whole_photo;
  clearPhoto();
  if (garment) drawUploaded(garment);
  else if (query?.key !== undefined) drawStored(query.key);
  else if (query) {
    $("photo").hidden = true;
    $("caption").textContent = "A garment of an uploaded photo. The photo itself was not kept.";
    document.title = "Photo · Weft";
  }
}

// A photo whose garments are being detected.
export function drawPreview(url) {
  clearPhoto();
  showPhoto(url, "The photo being searched for garments");
  $("photo").parentElement.classList.add("working");
  $("stage").hidden = false;
  $("caption").textContent = "";
  $("garments").hidden = true;
}

function clearPhoto() {
  $("photo").parentElement.classList.remove("stored", "working");
  $("outlines").replaceChildren();
  $("facts").hidden = true;
}

function showPhoto(url, alt, size) {
  const photo = $("photo");
  photo.hidden = false;
  if (photo.getAttribute("src") !== url) photo.src = url;
  photo.alt = alt;
  // Set before the picture has loaded, so that outlines are in the right place at once.
  photo.style.aspectRatio = size ? `${size.width} / ${size.height}` : "auto";
}

$("photo").onerror = () => {
  $("photo").hidden = true;
};

// A garment of the uploaded photo.

function drawUploaded(garment) {
  const { url, answer, end } = state.upload;
  showPhoto(url, "The uploaded photo", answer);
  const until = new Date(end).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  $("caption").textContent =
    (answer.whole_photo ? "No garment was recognized, so the whole photo is the query. " : "") +
    `Not stored: the server keeps this photo's garments until ${until}. Links work until then.`;
  drawOutlines(answer, garment);
  drawGarmentList(answer, garment);
  drawFacts(garment.colors, Object.entries(garment.labels).map(([group, values]) => [
    group === "category" && garment.category ? "described category" : group,
    likely(values).map((one) => `${one.value} ${percent(one.probability)}`).join(", "),
  ]));
  document.title = `${garment.category ?? "Photo"} · Weft`;
}

export const boxArea = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
const likely = (values) => values.filter((one, i) => i === 0 || (i === 1 && one.probability >= 0.05));

function drawOutlines(answer, selected) {
  const svg = $("outlines");
  svg.setAttribute("viewBox", `0 0 ${answer.width} ${answer.height}`);
  // Small garments are drawn on top, so that each can be clicked.
  const sorted = [...answer.garments].sort((one, other) => boxArea(other) - boxArea(one));
  for (const garment of sorted) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", garment.outline.map((ring) => `M${ring.map((p) => p.join(" ")).join("L")}Z`).join(""));
    path.setAttribute("fill-rule", "evenodd");
    path.classList.toggle("chosen", garment === selected);
    path.onclick = () => {
      setQuery({ handle: garment.handle }, { replace: true });
      document.querySelector("input[name=garment]:checked")?.focus({ preventScroll: true });
    };
    highlightOnHover(path, garment.handle);
    svg.append(path);
  }
}

function drawGarmentList(answer, selected) {
  const list = $("garment-list");
  if (list.dataset.url !== state.upload.url) { // else the list stays, and with it the keyboard focus
    list.dataset.url = state.upload.url;
    list.replaceChildren(...answer.garments.map((garment) => {
      const radio = make("input", { type: "radio", name: "garment", value: garment.handle });
      radio.onchange = () => setQuery({ handle: garment.handle }, { replace: true });
      const score = make("span", { class: "sure" }, garment.score === null ? "" : percent(garment.score));
      const chip = make("label", { class: "chip" }, radio, garment.category ?? "photo", score);
      highlightOnHover(chip, garment.handle);
      return chip;
    }));
  }
  for (const radio of list.querySelectorAll("input")) radio.checked = radio.value === selected.handle;
}

// A garment's outline and its entry in the list are highlighted together.
function highlightOnHover(element, handle) {
  element.dataset.handle = handle;
  const highlight = (on) => {
    for (const one of document.querySelectorAll("[data-handle]")) {
      if (one.dataset.handle === handle) one.classList.toggle("hot", on);
    }
  };
  element.addEventListener("pointerenter", () => highlight(true));
  element.addEventListener("pointerleave", () => highlight(false));
}

// A garment of the database.

async function drawStored(key) {
  showPhoto(pictureUrl(key, 640), "The stored garment that is searched for");
  $("photo").parentElement.classList.add("stored");
  $("photo").hidden = !stats.photos;
  $("caption").textContent = key;
  try {
    const item = await request(`/api/items/${encodeURIComponent(key)}`);
    if (state.query?.key !== key) return;
    const category = item.category ? [["category", item.category]] : [];
    drawFacts(validColors(item.extra.colors), [...category, ...Object.entries(item.attributes)]);
    document.title = `${item.category ?? key} · Weft`;
  } catch (error) {
    if (state.query?.key === key && error.status !== 404) showError(error.message);
  }
}

// An item's `extra` may hold anything; only a valid list of colors is drawn.
const validColors = (list) => (list instanceof Array ? list : []).filter(
  (one) => /^#[0-9a-f]{6}$/.test(one?.hex) && typeof one.share === "number");

// Colors as { name, hex, share } and rows of [name, text].
function drawFacts(colors, rows) {
  const swatches = colors.map((color) => {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = color.hex;
    return make("li", {}, swatch, `${color.name} ${percent(color.share)}`);
  });
  const lines = rows.map(([name, text]) => make("tr", {}, make("th", { scope: "row" }, spaced(name)), make("td", {}, text)));
  $("facts").replaceChildren(
    ...(swatches.length ? [make("ul", { class: "swatches", "aria-label": "Colors" }, ...swatches)] : []),
    ...(lines.length ? [make("table", { class: "labels-table", "aria-label": "Labels" }, make("tbody", {}, ...lines))] : []),
  );
  $("facts").hidden = !swatches.length && !lines.length;
}
