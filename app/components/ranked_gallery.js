// A query beside its ranked gallery. Runs again whenever the data change: builds everything anew.

const STATES = {
  right: { mark: "M3.5 8.5l3 3 6-7", says: "right" },
  wrong: { mark: "M4 4l8 8m0-8l-8 8", says: "wrong" },
  ignored: { mark: "M4 8h8", says: "ignored: same identity, same camera" },
  unknown: { mark: "", says: "truth unknown" },
}

function make(tag, className, text) {
  const node = document.createElement(tag)
  if (className) node.className = className
  if (text !== undefined) node.textContent = text
  return node
}

function sign(state) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg")
  svg.setAttribute("viewBox", "0 0 16 16")
  svg.setAttribute("aria-hidden", "true")
  svg.setAttribute("class", "sign " + state)
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path")
  path.setAttribute("d", STATES[state].mark)
  svg.append(path)
  return svg
}

function describe(tile) {
  const rank = tile.state === "ignored" ? "no rank" : `rank ${tile.rank}`
  const running = tile.running === undefined ? "" : `, average precision so far ${tile.running}`
  const camera = tile.camera != null ? `, camera ${tile.camera}` : ""
  return `${rank}, ${STATES[tile.state].says}, distance ${tile.distance}${camera}${running}${tile.note ? `, ${tile.note}` : ""}. ${tile.title}`
}

function drawTile(tile) {
  const item = make("li", "tile " + tile.state)
  item.tabIndex = -1
  item.title = describe(tile)
  item.setAttribute("aria-label", describe(tile))
  const frame = make("div", "frame")
  const image = make("img")
  image.src = tile.src
  image.alt = tile.title
  image.draggable = false
  frame.append(image)
  if (tile.state !== "ignored") frame.append(make("span", "rank", String(tile.rank)))
  if (STATES[tile.state].mark) frame.append(sign(tile.state))
  if (tile.camera != null) frame.append(make("span", "camera", `c${tile.camera}`))
  const bar = make("div", "bar")
  const fill = make("i")
  fill.style.width = `${Math.round(100 * tile.share)}%`
  bar.append(fill)
  const numbers = make("div", "numbers")
  numbers.append(make("span", "distance", tile.distance))
  if (tile.running !== undefined) numbers.append(make("span", "running", `AP ${tile.running}`))
  if (tile.state === "ignored") numbers.append(make("span", "note", "ignored"))
  else if (tile.note) numbers.append(make("span", "note", tile.note))
  item.append(frame, bar, numbers)
  return item
}

function drawQuery(query) {
  const aside = make("aside", "query")
  aside.append(make("div", "caption", query.caption ?? "Query"))
  const frame = make("div", "frame")
  const image = make("img")
  image.src = query.src
  image.alt = `Query ${query.title}`
  frame.append(image)
  aside.append(frame, make("div", "name", query.title))
  const list = make("dl")
  for (const [name, value] of query.facts) list.append(make("dt", "", name), make("dd", "", value))
  aside.append(list)
  return aside
}

function drawLegend(tiles, compact) {
  const legend = make("div", "legend")
  const words = {
    right: "right: the same person under another camera",
    wrong: "wrong: somebody else",
    ignored: "ignored by the protocol: the same person under the same camera",
    unknown: "nobody knows who is right",
  }
  for (const state of Object.keys(words)) {
    if (!tiles.some((tile) => tile.state === state)) continue
    const entry = make("span", "entry")
    if (STATES[state].mark) entry.append(sign(state))
    entry.append(make("span", "", words[state]))
    legend.append(entry)
  }
  if (compact) return legend
  legend.append(make("span", "entry", "bar and number: distance to the query"))
  if (tiles.some((tile) => tile.running !== undefined))
    legend.append(make("span", "entry", "AP: average precision down to here"))
  return legend
}

// One stop for the Tab key; the arrows move inside and are not the page's shortcuts meanwhile.
function walk(list) {
  const tiles = [...list.children]
  if (tiles.length) tiles[0].tabIndex = 0
  list.onkeydown = (event) => {
    const at = tiles.indexOf(event.target)
    const row = tiles.filter((tile) => tile.offsetTop === tiles[0].offsetTop).length
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row }
    if (at < 0 || !(event.key in steps)) return
    event.preventDefault()
    event.stopPropagation()
    const next = tiles[Math.min(tiles.length - 1, Math.max(0, at + steps[event.key]))]
    tiles[at].tabIndex = -1
    next.tabIndex = 0
    next.focus()
  }
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".root")
  const list = make("ol", "tiles")
  list.setAttribute("aria-label", "Ranked gallery")
  list.append(...data.tiles.map(drawTile))
  if (!data.compact) walk(list)
  const right = make("div", "side")
  right.append(list)
  right.append(drawLegend(data.tiles, data.compact))
  root.className = data.compact ? "root compact" : "root"
  const body = make("div", "body")
  body.append(drawQuery(data.query), right)
  root.replaceChildren(body)
}
