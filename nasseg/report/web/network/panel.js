// The panel of one network. Text of a study only ever enters the page as text, never as markup.

import { el } from "../lib/dom.js";
import { bar, head, rowsOf } from "../lib/rows.js";
import { curve } from "./curve.js";
import { scheduleDiagram, stageDiagram } from "./diagram.js";
import { isDrawable, topologyDiagram } from "./topology.js";
import { copyText } from "../lib/copy.js";

const note = (text, className) => (text ? el("p", { class: className }, text) : null);

function groupOf(group) {
  return [
    el("h4", {}, group.title),
    note(group.protocol, "protocol"),
    note(group.warning, "warning"),
    rowsOf(group.figures),
    note(group.note, "protocol"),
    note(group.environment, "protocol"),
  ];
}

function commandOf(command) {
  const button = el("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    await copyText(command);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return el("div", { class: "copied" }, el("pre", {}, command), button);
}

export function panelOf(detail) {
  const parts = [el("h3", { class: "title" }, detail.title, el("span", { class: detail.front ? "state front" : "state" }, detail.state))];
  if (detail.reason) parts.push(el("p", {}, detail.reason));
  if (detail.stages?.some((stage) => stage[0])) {
    parts.push(el("h4", {}, "Stages"), stageDiagram(detail));
    parts.push(el("p", { class: "protocol" }, "A wider box is a finer map. A darker box takes more of the multiply-adds."));
  }
  if (isDrawable(detail.blocks)) {
    parts.push(el("h4", {}, "Branches and joins"), topologyDiagram(detail.blocks));
    parts.push(el("p", { class: "protocol" }, "Blocks from left to right, with their channels. Each row is a stride. Orange blocks join the outputs of several blocks."));
  }
  parts.push(...(detail.schedules ?? []).flatMap(scheduleDiagram));
  if (detail.arch.length) parts.push(el("h4", {}, "Architecture"), rowsOf(detail.arch, "arch"));
  parts.push(...detail.groups.flatMap(groupOf));
  if (detail.stages?.length) {
    const name = (stride) => (stride ? `1/${stride}` : "global");
    const table = rowsOf(detail.stages.map(([stride, , params, macs, share]) => [name(stride), params, macs, bar(share)]));
    table.prepend(head(["stride", "parameters", "mult-adds", ""]));
    parts.push(el("h4", {}, "Cost by stage"), table);
  }
  if (detail.parts?.length) {
    parts.push(el("h4", {}, "Latency by part"), rowsOf(detail.parts.map(([name, ms, share]) => [name, ms, bar(share)])));
    parts.push(note("Run eagerly, waiting for each part. These are medians: their sum may differ from the latency above.", "protocol"));
  }
  if (detail.iou?.length) {
    const row = ([name, iou]) => [name, iou === null ? "absent" : iou.toFixed(1), bar(iou || 0)];
    parts.push(el("h4", {}, "IoU by class, %"), rowsOf(detail.iou.map(row)));
  }
  if (detail.curve?.length > 1) parts.push(el("h4", {}, "Training loss"), curve(detail.curve, "loss"));
  if (detail.rungs?.length) parts.push(el("h4", {}, "mIoU at its rungs, %"), curve(detail.rungs, "mIoU", { colour: "#D55E00", marks: true }));
  for (const [title, command] of detail.commands ?? []) parts.push(el("h4", {}, title), commandOf(command));
  if (detail.facts.length) parts.push(el("h4", {}, "Record"), rowsOf(detail.facts));
  return parts.filter((part) => part !== null);
}
