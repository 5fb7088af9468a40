// The search page: starts it and takes photos from the file dialog, the camera, a drop or a paste.
//   state.js     the current search, in the address bar too
//   query.js     the garment that is searched for    upload.js    searching with a photo
//   controls.js  sliders and filters                 results.js   the garments found
//   api.js       requests, all to this server        dom.js       elements and texts

import { $ } from "./dom.js";
import { drawControls } from "./controls.js";
import { drawQuery } from "./query.js";
import { refresh, showLoading, showNothing } from "./results.js";
import { loadStats, onChange, openAddress, stats } from "./state.js";
import { searchPhoto } from "./upload.js";

onChange((queryChanged) => {
  drawControls();
  if (queryChanged) drawQuery();
  refresh();
});

async function start() {
  showLoading();
  try {
    await loadStats();
  } catch (error) {
    return showNothing("The server does not respond properly", error.message, "Reload", () => location.reload());
  }
  $("size").textContent = `${stats.items.toLocaleString()} garment${stats.items === 1 ? "" : "s"}`;
  $("drop").hidden = !stats.uploads.possible;
  $("no-uploads").hidden = stats.uploads.possible;
  openAddress();
  addEventListener("popstate", openAddress);
}

const started = start();

// A photo may come before the server's limits are known.
async function take(file) {
  if (!file) return;
  await started;
  searchPhoto(file);
}

$("choose").onclick = () => $("file").click();
$("camera").onclick = () => $("shot").click();
for (const input of [$("file"), $("shot")]) {
  input.onchange = () => {
    take(input.files[0]);
    input.value = ""; // so that the same photo can be chosen again
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
  take([...event.clipboardData.files].find((one) => one.type.startsWith("image/")));
});
