(function () {
  "use strict";
  var root = document.documentElement;
  if (typeof Plotly === "undefined") { root.classList.remove("live"); return; }
  var page = JSON.parse(document.getElementById("figures").textContent);
  var dark = window.matchMedia("(prefers-color-scheme: dark)");

  function theme() { return root.dataset.theme || (dark.matches ? "dark" : "light"); }

  // "@c0" or "@c0/0.4": a colour of the theme, with its opacity.
  function ink(token) {
    var parts = token.slice(1).split("/");
    var value = page[theme()][parts[0]];
    if (parts.length === 1) return value;
    var rgb = [1, 3, 5].map(function (at) { return parseInt(value.slice(at, at + 2), 16); });
    return "rgba(" + rgb.join(",") + "," + parts[1] + ")";
  }

  function colored(value, key) {
    if (Array.isArray(value)) return key === "x" || key === "y" ? value.slice() : value.map(function (item) { return colored(item, ""); });
    if (value && typeof value === "object") {
      var copy = {};
      Object.keys(value).forEach(function (name) { copy[name] = /text$/.test(name) ? value[name] : colored(value[name], name); });
      return copy;
    }
    return typeof value === "string" && /^@[a-z]\w*(\/[\d.]+)?$/.test(value) && /color$/.test(key) ? ink(value) : value;
  }

  function draw(holder) {
    var told = page.figures[holder.id];
    var layout = colored(told.layout, "");
    var narrow = holder.clientWidth < 560;
    if (narrow) {
      // Names beside points would cover each other here; a touch on a point tells them, and the table below has them all.
      layout.annotations = layout.annotations.filter(function (note) { return note.keep; });
      layout.font.size = 10;
      Object.keys(layout).filter(function (name) { return /^yaxis/.test(name); }).forEach(function (name) {
        layout[name].ticktext = layout[name].ticktext.map(function (text) {
          return text.length > 17 && text.indexOf("&") < 0 ? text.slice(0, 9) + "…" + text.slice(-7) : text;
        });
      });
      layout.xaxis.tickvals = layout.xaxis.tickvals.filter(function (_, at) { return at % 2 === 0 || layout.xaxis.tickvals.length < 7; });
      layout.xaxis.ticktext = told.layout.xaxis.ticktext.filter(function (_, at) { return at % 2 === 0 || told.layout.xaxis.ticktext.length < 7; });
      layout.xaxis.title.text = layout.xaxis.title.text.replace(/, logarithmic/, "");
    }
    layout.annotations.forEach(function (note) { delete note.keep; });
    layout.width = holder.clientWidth;
    Plotly.react(holder, colored(told.data, ""), layout, { displayModeBar: false, scrollZoom: false });
    holder.dataset.drawn = theme() + holder.clientWidth;
  }

  var holders = Array.prototype.slice.call(document.querySelectorAll(".plot"));
  if ("IntersectionObserver" in window) {
    var watcher = new IntersectionObserver(function (entries) {
      entries.forEach(function (entry) {
        if (entry.isIntersecting) { watcher.unobserve(entry.target); draw(entry.target); }
      });
    }, { rootMargin: "600px" });
    holders.forEach(function (holder) { watcher.observe(holder); });
  } else {
    holders.forEach(draw);
  }

  // Draw again what was drawn for another theme or width; a page being printed has no width for these.
  function redraw() {
    holders.forEach(function (holder) {
      if (holder.dataset.drawn && holder.clientWidth && holder.dataset.drawn !== theme() + holder.clientWidth) draw(holder);
    });
  }

  var toggle = document.getElementById("theme");
  toggle.hidden = false;
  toggle.addEventListener("click", function () {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    try { localStorage.setItem("edgematrix-theme", root.dataset.theme); } catch (blocked) { /* a file opened from disk may not keep it */ }
    redraw();
  });
  if (dark.addEventListener) dark.addEventListener("change", redraw);
  if ("ResizeObserver" in window) {
    var sizes = new ResizeObserver(redraw);
    holders.forEach(function (holder) { sizes.observe(holder); });
  } else {
    window.addEventListener("resize", redraw);
  }

  // Sorting: a click on a heading; a second one turns it round. What has no value stays at the end.
  document.querySelectorAll("table.sortable").forEach(function (table) {
    table.querySelectorAll("th").forEach(function (head, column) {
      var button = head.querySelector("button");
      button.disabled = false;
      button.addEventListener("click", function () {
        var up = head.getAttribute("aria-sort") !== "ascending";
        table.querySelectorAll("th").forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        var body = table.tBodies[0];
        var rows = Array.prototype.slice.call(body.rows).map(function (row, at) {
          var key = row.cells[column].dataset.sort;
          return { row: row, at: at, key: key, number: key === undefined || key.trim() === "" ? NaN : Number(key) };
        });
        rows.sort(function (a, b) {
          if (a.key === undefined || b.key === undefined) return (a.key === undefined) - (b.key === undefined) || a.at - b.at;
          var order = isNaN(a.number) || isNaN(b.number) ? a.key.localeCompare(b.key, undefined, { numeric: true }) : a.number - b.number;
          return (up ? order : -order) || a.at - b.at;
        });
        rows.forEach(function (item) { body.appendChild(item.row); });
      });
    });
  });
})();
