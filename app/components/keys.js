// Keys wait for the page. A key that is pressed while the page still answers the one before would act
// on what is about to change, and of two that are sent together the server may see one: so they go out
// one after the other, each when the page has come to rest, or after a while. A letter puts the cursor
// into a text field, if the page has it; Escape leaves it, so that the keys are commands again.

const PATIENCE = 2000 // ms that a command waits for the page, and for a sign that its server is at work
const SLOW = 4000 // ms that the text field waits for that sign
const LATE = 10_000 // ms until a server is at work at the latest

let waiting = [] // keys, in order
let first = 0 // when the first of them began to wait
let commanded = -LATE // when the last command went to the page
let answered = true // the page was seen at work since
let field = {} // place: where the text field stands; letter: its key
let before = "" // what stood in it

const now = () => performance.now()
const input = () => document.querySelector(`.${field.place} :is(textarea, input)`)
const asks = (key) => key.toLowerCase() === field.letter && input()

function command() {
  commanded = now()
  answered = false
}

const idle = () => document.querySelector("[data-test-script-state='notRunning']")
const rests = (sure) => idle() && (answered || now() - commanded > sure)
const work = new MutationObserver(() => (answered ||= !idle()))

function wait(...keys) {
  waiting.push(...keys)
  if (waiting.length > keys.length) return
  first = now()
  send()
}

function send() {
  if (!waiting.length) return
  const place = input()
  if (place && place === document.activeElement) write(place, waiting.shift().key)
  else {
    const ready = asks(waiting[0].key) ? rests(SLOW) : rests(PATIENCE) || now() - first > PATIENCE
    if (!ready) return setTimeout(send, 30)
    first = now()
    pass(waiting.shift())
  }
  send()
}

function pass({ key, event }) {
  const place = asks(key)
  if (place) {
    place.focus()
    place.setSelectionRange(place.value.length, place.value.length)
  } else if (event) {
    command()
    const to = event.target.isConnected && event.target.matches("button, a") ? event.target : document.body
    for (const kind of ["keydown", "keyup"]) to.dispatchEvent(new KeyboardEvent(kind, event))
  }
}

function write(place, key) {
  if (key === "Escape") leave(place)
  else if (key === "Backspace") document.execCommand("delete")
  else if (key === "Enter") document.execCommand("insertText", false, "\n")
  else if (key.length === 1) document.execCommand("insertText", false, key)
}

function leave(place) {
  place.blur()
  if (place.value !== before) command()
}

// The slowest server may yet answer a command from before with another field: the text is for that one.
// Whoever saves it, leaves the field or goes back meant the one that was there.
function follow(place) {
  if (now() - commanded > LATE) return
  const had = before
  const observer = new MutationObserver(() => {
    if (place.isConnected) return
    end()
    const text = place.value.startsWith(had) ? place.value.slice(had.length) : place.value
    wait(...[field.letter, ...text].map((key) => ({ key })))
  })
  const end = () => {
    observer.disconnect()
    removeEventListener("popstate", end)
  }
  observer.observe(document.body, { childList: true, subtree: true })
  addEventListener("popstate", end)
  place.addEventListener("keydown", (event) => (event.ctrlKey || event.metaKey) && event.key === "Enter" && end())
  place.addEventListener("focusout", () => setTimeout(() => place.isConnected && end()))
}

// Of a component's pictures: their arrows, and all that a map knows.
function ownKeys(event, origin) {
  if (origin === event.target) return false
  return event.key.startsWith("Arrow") || event.composedPath().some((each) => each.classList?.contains("stage"))
}

function pressed(event) {
  if (!event.isTrusted || event.ctrlKey || event.metaKey || event.altKey) return
  const { key } = event
  const origin = event.composedPath()[0]
  if (origin === input()) {
    if (!waiting.length) return key === "Escape" && leave(origin)
  } else if (!origin.matches?.("body, button, a, section") || ownKeys(event, origin)) return
  else if (!waiting.length) {
    if (!/^(\S|ArrowLeft|ArrowRight)$/.test(key)) return
    if (!asks(key) && rests(PATIENCE)) return command()
  }
  if (!event.repeat) wait({ key, event })
  event.preventDefault()
  event.stopImmediatePropagation()
}

function clicked(event) {
  if (!event.isTrusted) return
  if (event.composedPath().some((each) => each.matches?.("button, a, label, [role=option]"))) command()
  if (event.target.closest?.(`.${field.place} button`)) wait({ key: field.letter })
}

function entered({ target }) {
  if (target !== input()) return
  before = target.value
  follow(target)
}

export default function ({ data }) {
  field = data
  work.observe(document.body, { subtree: true, attributeFilter: ["data-test-script-state"] })
  document.addEventListener("keydown", pressed, true)
  document.addEventListener("focusin", entered)
  document.addEventListener("click", clicked)
  return () => {
    work.disconnect()
    document.removeEventListener("keydown", pressed, true)
    document.removeEventListener("focusin", entered)
    document.removeEventListener("click", clicked)
  }
}
