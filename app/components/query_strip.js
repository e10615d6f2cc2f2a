// A filmstrip of queries; a click picks one. Runs again whenever the data change.

function make(tag, className, text) {
  const node = document.createElement(tag)
  if (className) node.className = className
  if (text !== undefined) node.textContent = text
  return node
}

function draw(item, noun, pick) {
  const button = make("button", item.chosen ? "item chosen" : "item")
  button.type = "button"
  button.title = item.title
  button.setAttribute("aria-label", `${noun} ${item.title}`)
  button.setAttribute("aria-pressed", String(item.chosen))
  const image = make("img")
  image.src = item.src
  image.alt = ""
  image.draggable = false
  const bar = make("span", "bar")
  const fill = make("i")
  fill.style.width = `${Math.round(100 * (item.share ?? 0))}%`
  bar.append(fill)
  button.append(image, bar, make("span", "note", item.note))
  button.onclick = () => pick(item.label)
  return button
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root")
  const strip = make("div", "strip")
  strip.setAttribute("role", "group")
  strip.setAttribute("aria-label", data.wrap ? "Images" : "Queries")
  if (data.wrap) strip.classList.add("wrap")
  const noun = data.wrap ? "Image" : "Query"
  strip.append(...data.items.map((item) => draw(item, noun, (label) => setTriggerValue("picked", label))))
  root.replaceChildren(strip)
  const chosen = strip.querySelector(".chosen")
  if (chosen) strip.scrollLeft = chosen.offsetLeft - (strip.clientWidth - chosen.clientWidth) / 2
}
