/** Milliseconds before the second and the third try. */
const PAUSES = [500, 2000];

/** Sends a request, and again if the service is busy or fails: only for requests whose repetition does nothing twice. */
export async function again(send: () => Promise<Response>): Promise<Response> {
  for (const pause of PAUSES) {
    const answer = await send();
    if (answer.status !== 429 && answer.status < 500) return answer;
    await new Promise((done) => setTimeout(done, pause));
  }
  return send();
}
