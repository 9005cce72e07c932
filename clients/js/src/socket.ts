import type { Link, Listener } from "./protocol.js";

/** A link over a WebSocket. */
export function openSocket(Socket: typeof WebSocket, url: string, listener: Listener): Link {
  const socket = new Socket(url);
  const close = (): void => {
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    socket.close();
  };
  socket.onopen = () => listener.opened_();
  socket.onmessage = ({ data }) => {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      // Something between here and the broker speaks, and nothing of it can be believed.
      close();
      return listener.ended_();
    }
    listener.heard_(message);
  };
  // Node.js 20 tells of a connection that does not come about by an error alone.
  socket.onclose = socket.onerror = ({ code }: any) => listener.ended_(code);
  return { send: (frame) => socket.send(frame), close };
}
