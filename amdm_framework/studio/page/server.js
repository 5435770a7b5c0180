// Questions to the studio. Every answer is plain data; one with `error` says what went wrong, in words for people.

// The studio refuses what is larger unread; a question travels with some bytes around it.
const MOST_QUESTION_BYTES = 2 ** 20 - 2 ** 10;
const MOST_FILE_BYTES = 20 * 2 ** 20;
// Of a composition or a scene as YAML.
const MOST_CHARACTERS = 2 ** 18;

export class Server {
  constructor(functions, upload) {
    this.functions = functions;
    this.upload = upload;
    this.session = sessionStorage.getItem('amdm-session') || '';
    this.opening = null;
  }

  // Questions that ask for a new session together get the same one.
  open() {
    this.opening ||= this.begin().finally(() => { this.opening = null; });
    return this.opening;
  }

  async begin() {
    const answer = await this.send('open', { session: this.session });
    if (answer.error) throw new Error(answer.error);
    this.session = answer.session;
    sessionStorage.setItem('amdm-session', this.session);
    return answer;
  }

  async ask(name, data = {}, again = false) {
    const session = this.session;
    const answer = await this.send(name, { session, ...data });
    if (answer.expired && !again) {
      // The studio was started anew: what is on the page is still here, and goes on in a new session.
      if (this.session === session) await this.open();
      return this.ask(name, data, true);
    }
    if (answer.error) throw new Error(answer.error);
    return answer;
  }

  // A text that is too long is a problem like others, and is not sent.
  async check(draft) {
    const problems = [];
    for (const [part, text] of Object.entries(draft)) {
      const length = typeof text === 'string' && text.length > MOST_CHARACTERS ? [...text].length : 0;
      if (length > MOST_CHARACTERS) problems.push({ part, key: '', message: `found ${length} characters, expected ${MOST_CHARACTERS} at most` });
    }
    return problems.length ? { composition: null, scene: null, problems, cost: null, incompatible: '' } : this.ask('check', draft);
  }

  // A file goes to the server first; `name` then makes something of it.
  async askAbout(file, name) {
    if (file.size > MOST_FILE_BYTES) throw new Error(`${file.name} is larger than 20 MiB, which is the most that the studio takes`);
    let sent;
    try {
      sent = await this.upload(file);
    } catch {
      throw new Error(await this.failure(`${file.name} could not be sent. Too much may be on its way: try again in some minutes.`));
    }
    return this.ask(name, { path: sent.path, name: file.name });
  }

  async send(name, question) {
    if (new Blob([JSON.stringify(question)]).size > MOST_QUESTION_BYTES) {
      throw new Error('Scene and models are larger than 1 MiB together, which is the most that the studio takes');
    }
    // What gradio could not send, and what came back as an error, is no answer; it does not say which.
    const answer = await this.functions[name](question).catch(() => null);
    if (!answer) throw new Error(await this.failure('The studio runs, but could not answer this. Its terminal may show why.'));
    return answer;
  }

  // Why there was no answer: `refused` where the studio answers other questions.
  async failure(refused) {
    try {
      const { ok, status } = await fetch(new URL('gradio_api/login_check', document.baseURI), { cache: 'no-store' });
      if (ok) return refused;
      return status === 401 ? 'You are not logged in any more: reload the page.' : `The studio does not answer: HTTP error ${status} came in its place.`;
    } catch {
      return 'The studio does not answer. Is it still running?';
    }
  }
}
