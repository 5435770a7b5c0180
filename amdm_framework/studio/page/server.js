// Questions to the studio. Every answer is plain data; one with `error` says what went wrong, in words for people.

export class Server {
  constructor(functions, upload) {
    this.functions = functions;
    this.upload = upload;
    this.session = sessionStorage.getItem('amdm-session') || '';
  }

  async open() {
    const answer = await this.functions.open({ session: this.session });
    if (answer.error) throw new Error(answer.error);
    this.session = answer.session;
    sessionStorage.setItem('amdm-session', this.session);
    return answer;
  }

  async ask(name, data = {}, again = false) {
    let answer;
    try {
      answer = await this.functions[name]({ session: this.session, ...data });
    } catch {
      throw new Error('The studio does not answer. Is it still running?');
    }
    if (answer === null || answer === undefined) throw new Error('The studio does not answer. Is it still running?');
    if (answer.expired && !again) {
      // The studio was started anew: what is on the page is still here, and goes on in a new session.
      await this.open();
      return this.ask(name, data, true);
    }
    if (answer.error && name !== 'jobs') throw new Error(answer.error);
    return answer;
  }

  // A file goes to the server first; `name` then makes something of it.
  async askAbout(file, name) {
    let sent;
    try {
      sent = await this.upload(file);
    } catch {
      throw new Error(`${file.name} could not be sent: files of up to 20 MB are taken`);
    }
    return this.ask(name, { path: sent.path, name: file.name });
  }
}
