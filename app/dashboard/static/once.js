// Names for calls that must be done once, however often they are sent because an answer was lost.

/** Return a new Idempotency-Key; also where the page came over plain HTTP, in which browsers make no UUIDs. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
