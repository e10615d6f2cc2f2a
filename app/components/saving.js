// Shared by the components that save what they show: everything happens in the browser.

const SVG = "http://www.w3.org/2000/svg"

function make(tag, className, text) {
  const node = document.createElement(tag)
  if (className) node.className = className
  if (text !== undefined) node.textContent = text
  return node
}

function shape(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value)
  if (text !== undefined) node.textContent = text
  return node
}

function save(content, type, name) {
  const blob = content instanceof Blob ? content : new Blob([content], { type })
  const link = make("a")
  link.href = URL.createObjectURL(blob)
  link.download = name
  link.click() // not put on the page: a click there would close the popover around the button
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
}

// An empty picture of that size, with a margin around it, in the page's colours.
function sheet(width, height, near, title, margin = 0) {
  const style = getComputedStyle(near)
  const frame = { width: width + 2 * margin, height: height + 2 * margin }
  const svg = shape("svg", { xmlns: SVG, ...frame, viewBox: `${-margin} ${-margin} ${frame.width} ${frame.height}` })
  svg.setAttribute("font-family", style.getPropertyValue("--st-font") || style.fontFamily)
  if (title) svg.append(shape("title", {}, title))
  const paper = style.getPropertyValue("--st-background-color").trim() || "#ffffff"
  svg.append(shape("rect", { x: -margin, y: -margin, ...frame, fill: paper }))
  return svg
}

function saveSvg(svg, name) {
  const text = new XMLSerializer().serializeToString(svg)
  save('<?xml version="1.0" encoding="UTF-8"?>\n' + text, "image/svg+xml", `${name}.svg`)
}

// Twice the size on screen. A picture inside a picture sees none of the page's fonts, so they go in.
async function savePng(svg, name) {
  const scale = 2
  const copy = svg.cloneNode(true)
  const fonts = await embeddedFonts(copy)
  if (fonts) copy.prepend(shape("style", {}, fonts))
  const image = new Image()
  const text = new XMLSerializer().serializeToString(copy)
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text)
  await image.decode()
  const canvas = make("canvas")
  canvas.width = Math.round(scale * Number(svg.getAttribute("width")))
  canvas.height = Math.round(scale * Number(svg.getAttribute("height")))
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height)
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"))
  save(blob, "image/png", `${name}.png`)
}

// The @font-face rules of the families that a picture names, with the files in them.
async function embeddedFonts(svg) {
  const said = [svg, ...svg.querySelectorAll("text, tspan")].map(
    (node) => (node.getAttribute("font-family") ?? "") + (node.style?.fontFamily ?? ""))
  const families = new Set(said.join(",").split(",").map((name) => name.replaceAll(/["']/g, "").trim()))
  const found = []
  for (const face of pageFonts()) {
    const family = face.style.getPropertyValue("font-family").replaceAll(/["']/g, "").trim()
    if (!families.has(family) || face.style.getPropertyValue("font-style") === "italic") continue
    try {
      const sheet = face.parentStyleSheet?.href ?? document.baseURI
      const source = new URL(face.style.getPropertyValue("src").match(/url\(["']?([^"')]+)/)[1], sheet)
      if (source.origin !== location.origin) continue // nothing is fetched from elsewhere
      const bytes = new Uint8Array(await (await fetch(source)).arrayBuffer())
      const packed = btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""))
      const weight = face.style.getPropertyValue("font-weight") || "normal"
      found.push(`@font-face { font-family: "${family}"; font-weight: ${weight};` +
        ` src: url(data:font/woff2;base64,${packed}) format("woff2"); }`)
    } catch { /* without its file the next family of the list is taken */ }
  }
  return found.join("\n")
}

function pageFonts() {
  const found = []
  for (const sheet of [...document.styleSheets, ...document.adoptedStyleSheets]) {
    try {
      found.push(...[...sheet.cssRules].filter((rule) => rule instanceof CSSFontFaceRule))
    } catch { /* another origin's style sheet does not show its rules */ }
  }
  return found
}

// A row of small buttons; each shows that it is at work and says so when it fails.
function saveButtons(kinds) {
  const row = make("div", "saving")
  for (const [label, act] of Object.entries(kinds)) {
    const button = make("button", "save", label)
    button.type = "button"
    button.title = `Download as ${label}`
    button.setAttribute("aria-label", button.title)
    button.onclick = async () => {
      button.disabled = true
      try {
        await act()
        button.title = `Download as ${label}`
      } catch (problem) {
        button.title = `It could not be saved: ${problem.message ?? problem}`
        button.classList.add("failed")
      }
      button.disabled = false
    }
    row.append(button)
  }
  return row
}
