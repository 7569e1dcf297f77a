"""Styles and script of a report page."""

STYLE = """
:root{--bg:#ffffff;--ink:#1d2733;--soft:#5d6b7a;--line:#e1e6ec;--panel:#f6f8fa;
 --good:22,128,90;--bad:196,60,52;color-scheme:light}
:root[data-theme=dark]{--bg:#14191f;--ink:#e3e8ee;--soft:#95a3b3;--line:#2c3540;--panel:#1b222a;
 --good:52,168,122;--bad:224,98,88;color-scheme:dark}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1240px;margin:0 auto;padding:20px 20px 60px;position:relative}
h1{font-size:25px;margin:4px 48px 4px 0;overflow-wrap:anywhere}
h2{font-size:18px;margin:34px 0 8px;padding-top:10px;border-top:1px solid var(--line)}
p{margin:6px 0;max-width:86ch;overflow-wrap:anywhere}
.lead{color:var(--soft)}
.verdict{border-left:4px solid var(--soft);background:var(--panel);padding:8px 12px;margin:10px 0;
 max-width:none}
.verdict p{max-width:none;margin:3px 0}
.verdict p:first-child{font-weight:600}
#theme{position:absolute;right:20px;top:20px;border:1px solid var(--line);background:var(--panel);
 color:var(--ink);border-radius:6px;font-size:17px;padding:2px 9px;cursor:pointer}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px;margin:16px 0}
.tile{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:8px 12px}
.label,.note{color:var(--soft);font-size:12.5px;overflow-wrap:anywhere}
.value{font-size:20px;font-weight:600;font-variant-numeric:tabular-nums}
.scroll{overflow:auto;max-height:560px;margin:8px 0}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;border-bottom:1px solid var(--line);white-space:nowrap}
td.l:last-child{white-space:normal;min-width:200px}
th{position:sticky;top:0;background:var(--bg);color:var(--soft);font-weight:600}
.l{text-align:left}
.r{text-align:right}
.figure{width:100%;min-width:0;margin:6px 0}
pre{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:8px 12px;
 overflow:auto;font-size:13px}
@media(max-width:600px){
main{padding:12px 12px 40px}
.tiles{grid-template-columns:repeat(2,1fr)}
h1{font-size:21px}
.value{font-size:17px}
}
@page{margin:14mm 12mm}
@media print{
#theme{display:none}
main{max-width:none;padding:0}
body{font-size:12px}
.scroll{overflow:visible;max-height:none}
.figure,.tile,tr{break-inside:avoid}
.figure,.figure .plot-container,.figure .svg-container,.figure .main-svg{width:100%!important;
 height:auto!important}
h2{break-after:avoid}
.tiles{grid-template-columns:repeat(4,1fr)}
table{font-size:9px}
th,td{padding:2px 4px}
th,td.l{white-space:normal}
th{position:static}
thead{display:table-header-group}
.scroll.long tbody tr:nth-child(n+41){display:none}
}
"""

SCRIPT = """
(function () {
const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
const PRINTED_WIDTH = 680;  // of a figure on a page of A4
let chosen = null, printing = false;
const charts = [...document.querySelectorAll(".figure")].map(
  div => [div, JSON.parse(div.nextElementSibling.textContent)]);
function color(name) { return getComputedStyle(root).getPropertyValue(name).trim(); }
function themed(layout) {
  const ink = color("--ink"), line = color("--line"), clear = "rgba(0,0,0,0)";
  const axis = {gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true};
  const merged = Object.assign({}, layout, {
    paper_bgcolor: clear, plot_bgcolor: clear, font: {color: ink, size: 12, family: "system-ui, sans-serif"},
    hoverlabel: {bgcolor: color("--panel"), font: {color: ink}}});
  for (const key of Object.keys(layout).filter(k => /^[xy]axis/.test(k)).concat(["xaxis", "yaxis"]))
    merged[key] = Object.assign({}, layout[key] || {}, axis);
  merged.legend = Object.assign({orientation: "h", y: 1.02, yanchor: "bottom", x: 0}, layout.legend || {});
  merged.margin = Object.assign({l: 10, r: 10, t: 10, b: 30}, layout.margin || {});
  if (printing) merged.width = PRINTED_WIDTH;
  return merged;
}
function scale(div) {  // a page that is shrunk to fit wide tables is wider than a figure of fixed width
  for (const svg of div.querySelectorAll(".main-svg")) {
    const size = ["width", "height"].map(each => svg.getAttribute(each)).join(" ");
    if (printing) svg.setAttribute("viewBox", `0 0 ${size}`);
    else svg.removeAttribute("viewBox");
  }
  const box = div.querySelector(".svg-container");
  if (printing) box.style.aspectRatio = `${PRINTED_WIDTH} / ${div.clientHeight}`;
  else box.style.aspectRatio = "";
}
function draw() {
  root.dataset.theme = printing ? "light" : (chosen || (dark.matches ? "dark" : "light"));
  const config = {responsive: !printing, displaylogo: false, displayModeBar: false};
  for (const [div, figure] of charts) {
    Plotly.react(div, figure.data, themed(figure.layout || {}), config);
    scale(div);
  }
}
draw();
dark.addEventListener("change", draw);
document.getElementById("theme").addEventListener("click", () => {
  chosen = root.dataset.theme === "dark" ? "light" : "dark";
  draw();
});
addEventListener("beforeprint", () => { printing = true; draw(); });
addEventListener("afterprint", () => { printing = false; draw(); });
root.dataset.drawn = String(charts.length);
})();
"""
