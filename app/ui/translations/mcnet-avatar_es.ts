<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="es" sourcelanguage="en">
    <context>
        <name>mcnet-avatar</name>
        <message>
            <source>(none is bundled)</source>
            <translation>(no hay ninguno incluido)</translation>
        </message>
        <message>
            <source>1 to 6: 64 px halve six times</source>
            <translation>de 1 a 6: 64 px se dividen por dos seis veces</translation>
        </message>
        <message>
            <source>A call hears nothing: {trouble}.</source>
            <translation>Una llamada no oye nada: {trouble}.</translation>
        </message>
        <message>
            <source>A call hears you {delay_ms:.0f} ms late, with the picture.</source>
            <translation>Una llamada le oye {delay_ms:.0f} ms más tarde, junto con la imagen.</translation>
        </message>
        <message>
            <source>A device that every call program lists. It needs a kernel module, and root once.</source>
            <translation>Un dispositivo que ofrece todo programa de llamada. Necesita un módulo del núcleo, y una vez permisos de root.</translation>
        </message>
        <message>
            <source>A folder for recordings</source>
            <translation>Una carpeta para las grabaciones</translation>
        </message>
        <message>
            <source>A folder…</source>
            <translation>Una carpeta…</translation>
        </message>
        <message>
            <source>A lattice drawn on the portrait, moved as the portrait is</source>
            <translation>Una cuadrícula dibujada sobre el retrato, movida como él</translation>
        </message>
        <message>
            <source>A model</source>
            <translation>Un modelo</translation>
        </message>
        <message>
            <source>A model's folder, or that of a run that learns</source>
            <translation>La carpeta de un modelo o de un entrenamiento en curso</translation>
        </message>
        <message>
            <source>A motion file for the avatar that idles</source>
            <translation>Un archivo de movimiento para el avatar en reposo</translation>
        </message>
        <message>
            <source>A motion file in the camera's place</source>
            <translation>Un archivo de movimiento en lugar de la cámara</translation>
        </message>
        <message>
            <source>A motion file…</source>
            <translation>Un archivo de movimiento…</translation>
        </message>
        <message>
            <source>A phone with a camera app, or any camera with an address on your network</source>
            <translation>Un teléfono con una aplicación de cámara, o cualquier cámara con una dirección en su red</translation>
        </message>
        <message>
            <source>A picture as background</source>
            <translation>Una imagen de fondo</translation>
        </message>
        <message>
            <source>A picture for the slate</source>
            <translation>Una imagen para la pantalla de espera</translation>
        </message>
        <message>
            <source>A picture of yours that the slate shows</source>
            <translation>Una imagen propia que muestra la pantalla de espera</translation>
        </message>
        <message>
            <source>A picture of yours that the slate shows; now: {file}</source>
            <translation>Una imagen propia que muestra la pantalla de espera; ahora: {file}</translation>
        </message>
        <message>
            <source>A picture…</source>
            <translation>Una imagen…</translation>
        </message>
        <message>
            <source>A safe start avoids what may have been the cause: the processor computes, there is no virtual camera, and all settings are the defaults. Your own are kept for the next start.</source>
            <translation>Un inicio seguro evita lo que pudo ser la causa: calcula el procesador, no hay cámara virtual y todos los ajustes son los predeterminados. Los suyos se conservan para el próximo inicio.</translation>
        </message>
        <message>
            <source>A video as background</source>
            <translation>Un vídeo de fondo</translation>
        </message>
        <message>
            <source>A video in the camera's place</source>
            <translation>Un vídeo en lugar de la cámara</translation>
        </message>
        <message>
            <source>A video…</source>
            <translation>Un vídeo…</translation>
        </message>
        <message>
            <source>AKD of copying</source>
            <translation>AKD respecto a copiar</translation>
        </message>
        <message>
            <source>Absolute</source>
            <translation>Absoluto</translation>
        </message>
        <message>
            <source>Add a picture from a file</source>
            <translation>Añadir una imagen desde un archivo</translation>
        </message>
        <message>
            <source>Add a picture from the clipboard</source>
            <translation>Añadir una imagen desde el portapapeles</translation>
        </message>
        <message>
            <source>Add a picture of yours (Ctrl+O), or drop one anywhere</source>
            <translation>Añadir una imagen propia (Ctrl+O), o suelte una en cualquier parte</translation>
        </message>
        <message>
            <source>Add a portrait</source>
            <translation>Añadir un retrato</translation>
        </message>
        <message>
            <source>Add neither this picture nor those that wait</source>
            <translation>No añadir esta imagen ni las que esperan</translation>
        </message>
        <message>
            <source>Add the picture in the clipboard (Ctrl+V)</source>
            <translation>Añadir la imagen del portapapeles (Ctrl+V)</translation>
        </message>
        <message>
            <source>Add yours…</source>
            <translation>El suyo…</translation>
        </message>
        <message>
            <source>Add…</source>
            <translation>Añadir…</translation>
        </message>
        <message>
            <source>Adjust the crop</source>
            <translation>Ajustar el recorte</translation>
        </message>
        <message>
            <source>Allow it in System Settings &gt; {place}</source>
            <translation>Permítalo en Ajustes del Sistema &gt; {place}</translation>
        </message>
        <message>
            <source>Always dark</source>
            <translation>Siempre oscuro</translation>
        </message>
        <message>
            <source>Always light</source>
            <translation>Siempre claro</translation>
        </message>
        <message>
            <source>Another colour</source>
            <translation>Otro color</translation>
        </message>
        <message>
            <source>Another file…</source>
            <translation>Otro archivo…</translation>
        </message>
        <message>
            <source>Another name for {preset}:</source>
            <translation>Otro nombre para {preset}:</translation>
        </message>
        <message>
            <source>As the desktop</source>
            <translation>Como el escritorio</translation>
        </message>
        <message>
            <source>As the system</source>
            <translation>Como el sistema</translation>
        </message>
        <message>
            <source>Attention</source>
            <translation>Atención</translation>
        </message>
        <message>
            <source>Automatic</source>
            <translation>Automático</translation>
        </message>
        <message>
            <source>Automatic crop</source>
            <translation>Recorte automático</translation>
        </message>
        <message>
            <source>Automatic: {device}</source>
            <translation>Automático: {device}</translation>
        </message>
        <message>
            <source>Avatar</source>
            <translation>Avatar</translation>
        </message>
        <message>
            <source>Back to the preview (Escape)</source>
            <translation>Volver a la vista previa (Esc)</translation>
        </message>
        <message>
            <source>Background</source>
            <translation>Fondo</translation>
        </message>
        <message>
            <source>Background: {name}</source>
            <translation>Fondo: {name}</translation>
        </message>
        <message>
            <source>Before and after the memory compensates them, by the same principal components</source>
            <translation>Antes y después de que la memoria las compense, según las mismas componentes principales</translation>
        </message>
        <message>
            <source>Begins…</source>
            <translation>Empieza…</translation>
        </message>
        <message>
            <source>Blinks, and eyes wide open.</source>
            <translation>Parpadeos y ojos muy abiertos.</translation>
        </message>
        <message>
            <source>Blur</source>
            <translation>Desenfoque</translation>
        </message>
        <message>
            <source>Brows</source>
            <translation>Cejas</translation>
        </message>
        <message>
            <source>Browsers and OBS see it once their PipeWire camera is switched on; the apps of Zoom and Teams do not.</source>
            <translation>Los navegadores y OBS la ven una vez activada su cámara PipeWire; las aplicaciones de Zoom y Teams no.</translation>
        </message>
        <message>
            <source>CALIBRATING</source>
            <translation>CALIBRANDO</translation>
        </message>
        <message>
            <source>Calibrate</source>
            <translation>Calibrar</translation>
        </message>
        <message>
            <source>Calibrate (F)</source>
            <translation>Calibrar (F)</translation>
        </message>
        <message>
            <source>Calibrate hands-free (F)</source>
            <translation>Calibrar manos libres (F)</translation>
        </message>
        <message>
            <source>Calibrate hands-free: the best frame of a second or two</source>
            <translation>Calibrar manos libres: la mejor imagen de uno o dos segundos</translation>
        </message>
        <message>
            <source>Calibrate: this very frame is the reference</source>
            <translation>Calibrar: esta misma imagen es la referencia</translation>
        </message>
        <message>
            <source>Call this picture of yours something else (F2)</source>
            <translation>Cambiar el nombre de esta imagen propia (F2)</translation>
        </message>
        <message>
            <source>Call this preset something else</source>
            <translation>Cambiar el nombre de este preajuste</translation>
        </message>
        <message>
            <source>Calms jitter; a slow movement is shown that much later.</source>
            <translation>Calma el temblor; un movimiento lento se muestra con ese retraso.</translation>
        </message>
        <message>
            <source>Camera</source>
            <translation>Cámara</translation>
        </message>
        <message>
            <source>Camera {number}</source>
            <translation>Cámara {number}</translation>
        </message>
        <message>
            <source>Can be chosen in the window: {words}.</source>
            <translation>Se puede elegir en la ventana: {words}.</translation>
        </message>
        <message>
            <source>Cancel</source>
            <translation>Cancelar</translation>
        </message>
        <message>
            <source>Cancel all</source>
            <translation>Cancelar todo</translation>
        </message>
        <message>
            <source>Chain from the camera to the call</source>
            <translation>Cadena desde la cámara hasta la llamada</translation>
        </message>
        <message>
            <source>Change…</source>
            <translation>Cambiar…</translation>
        </message>
        <message>
            <source>Choose another picture or video</source>
            <translation>Elegir otra imagen o vídeo</translation>
        </message>
        <message>
            <source>Choose two to four views of the network's inside</source>
            <translation>Elegir de dos a cuatro vistas del interior de la red</translation>
        </message>
        <message>
            <source>Choose {camera}</source>
            <translation>Elija {camera}</translation>
        </message>
        <message>
            <source>Choose “{name}” in your call program. Nobody listens to it yet.</source>
            <translation>Elija «{name}» en su programa de llamada. Nadie lo escucha todavía.</translation>
        </message>
        <message>
            <source>Close</source>
            <translation>Cerrar</translation>
        </message>
        <message>
            <source>Close the programs that use it and load the module again</source>
            <translation>Cierre los programas que lo usan y vuelva a cargar el módulo</translation>
        </message>
        <message>
            <source>Close {by}</source>
            <translation>Cierre {by}</translation>
        </message>
        <message>
            <source>Column</source>
            <translation>Columna</translation>
        </message>
        <message>
            <source>Command</source>
            <translation>Comando</translation>
        </message>
        <message>
            <source>Computer</source>
            <translation>Ordenador</translation>
        </message>
        <message>
            <source>Content Credentials</source>
            <translation>Credenciales de contenido</translation>
        </message>
        <message>
            <source>Control from outside</source>
            <translation>Control externo</translation>
        </message>
        <message>
            <source>Controls</source>
            <translation>Controles</translation>
        </message>
        <message>
            <source>Copy</source>
            <translation>Copiar</translation>
        </message>
        <message>
            <source>Copy the token</source>
            <translation>Copiar el token</translation>
        </message>
        <message>
            <source>Copy this command</source>
            <translation>Copiar este comando</translation>
        </message>
        <message>
            <source>Crop by the face that was found</source>
            <translation>Recortar según la cara encontrada</translation>
        </message>
        <message>
            <source>Crop of the portrait</source>
            <translation>Recorte del retrato</translation>
        </message>
        <message>
            <source>Crop of {name}</source>
            <translation>Recorte de {name}</translation>
        </message>
        <message>
            <source>Crop of {name} ({number} of {of})</source>
            <translation>Recorte de {name} ({number} de {of})</translation>
        </message>
        <message>
            <source>Ctrl</source>
            <translation>Ctrl</translation>
        </message>
        <message>
            <source>Cut the person out</source>
            <translation>Recortar a la persona</translation>
        </message>
        <message>
            <source>DROP</source>
            <translation>SOLTAR</translation>
        </message>
        <message>
            <source>Dark</source>
            <translation>Oscuro</translation>
        </message>
        <message>
            <source>Delete</source>
            <translation>Eliminar</translation>
        </message>
        <message>
            <source>Delete preset</source>
            <translation>Eliminar preajuste</translation>
        </message>
        <message>
            <source>Delete this preset; the portraits keep their strengths</source>
            <translation>Eliminar este preajuste; los retratos conservan sus intensidades</translation>
        </message>
        <message>
            <source>Device</source>
            <translation>Dispositivo</translation>
        </message>
        <message>
            <source>Dismiss</source>
            <translation>Descartar</translation>
        </message>
        <message>
            <source>Do what the message proposes</source>
            <translation>Hacer lo que propone el mensaje</translation>
        </message>
        <message>
            <source>Drag the square, or its corners. Keys: arrows move, plus and minus resize, Page Up and Down turn, comma and full stop straighten.</source>
            <translation>Arrastre el cuadrado o sus esquinas. Teclas: las flechas mueven, más y menos cambian el tamaño, Re Pág y Av Pág giran, coma y punto enderezan.</translation>
        </message>
        <message>
            <source>Draw on your picture what was found in it (O).</source>
            <translation>Dibuja sobre su imagen lo que se encontró en ella (O).</translation>
        </message>
        <message>
            <source>Draw skin, teeth, lids</source>
            <translation>Dibujar piel, dientes y párpados</translation>
        </message>
        <message>
            <source>Draws what the network cannot show of this portrait: its skin where it moves, the inside of a mouth that its picture keeps shut, and lids that close. For motion in space; nothing of your own picture goes into it.</source>
            <translation>Dibuja lo que la red no puede mostrar de este retrato: su piel donde se mueve, el interior de una boca que en la imagen está cerrada y los párpados que se cierran. Para el movimiento en el espacio; no se usa nada de su propia imagen.</translation>
        </message>
        <message>
            <source>Drop a picture to add a portrait, or a video or motion file to stand in for the camera.</source>
            <translation>Suelte una imagen para añadir un retrato, o un vídeo o un archivo de movimiento que sustituya a la cámara.</translation>
        </message>
        <message>
            <source>Each part of motion and expression for itself, in space only.</source>
            <translation>Cada parte del movimiento y de la expresión por separado, solo en el espacio.</translation>
        </message>
        <message>
            <source>Enable RPM Fusion's free repository (rpmfusion.org tells how), then install it</source>
            <translation>Active el repositorio libre de RPM Fusion (rpmfusion.org explica cómo) y luego instálelo</translation>
        </message>
        <message>
            <source>Enter keeps the name, Escape the one before.</source>
            <translation>Intro conserva el nombre, Esc el anterior.</translation>
        </message>
        <message>
            <source>Everything is ready.</source>
            <translation>Todo está listo.</translation>
        </message>
        <message>
            <source>Expression</source>
            <translation>Expresión</translation>
        </message>
        <message>
            <source>FAULT</source>
            <translation>FALLO</translation>
        </message>
        <message>
            <source>Features</source>
            <translation>Características</translation>
        </message>
        <message>
            <source>Figures</source>
            <translation>Cifras</translation>
        </message>
        <message>
            <source>Figures: not measured</source>
            <translation>Cifras: sin medir</translation>
        </message>
        <message>
            <source>Figures: {figures}</source>
            <translation>Cifras: {figures}</translation>
        </message>
        <message numerus="yes">
            <source>Figures: {figures} ({n} clips that it never saw)</source>
            <translation>
                <numerusform>Cifras: {figures} ({n} clip que nunca vio)</numerusform>
                <numerusform>Cifras: {figures} ({n} clips que nunca vio)</numerusform>
            </translation>
        </message>
        <message>
            <source>Find the fastest way to run the model on this computer (a few seconds), and remember it</source>
            <translation>Busca la forma más rápida de ejecutar el modelo en este ordenador (unos segundos) y la recuerda</translation>
        </message>
        <message>
            <source>Fine detail</source>
            <translation>Detalle fino</translation>
        </message>
        <message>
            <source>Fine-tune</source>
            <translation>Ajuste fino</translation>
        </message>
        <message>
            <source>First steps</source>
            <translation>Primeros pasos</translation>
        </message>
        <message>
            <source>Flip what the call sees (T).</source>
            <translation>Invierte lo que ve la llamada (T).</translation>
        </message>
        <message>
            <source>Folder of recordings</source>
            <translation>Carpeta de grabaciones</translation>
        </message>
        <message>
            <source>Framing</source>
            <translation>Encuadre</translation>
        </message>
        <message>
            <source>Gaze</source>
            <translation>Mirada</translation>
        </message>
        <message>
            <source>Generated</source>
            <translation>Generado</translation>
        </message>
        <message>
            <source>Give the output to call programs as a camera. It starts with the slate; then go live.</source>
            <translation>Da la salida a los programas de llamada como una cámara. Empieza con la pantalla de espera; después, pase a en vivo.</translation>
        </message>
        <message>
            <source>Go live</source>
            <translation>Ir en vivo</translation>
        </message>
        <message>
            <source>Go live, or stop</source>
            <translation>Ir en vivo, o parar</translation>
        </message>
        <message>
            <source>HOLD</source>
            <translation>PAUSA</translation>
        </message>
        <message>
            <source>Hands-free</source>
            <translation>Manos libres</translation>
        </message>
        <message>
            <source>Have it at every start of the system</source>
            <translation>Tenerlo en cada inicio del sistema</translation>
        </message>
        <message>
            <source>Heard: {name}</source>
            <translation>Se oye: {name}</translation>
        </message>
        <message>
            <source>Hide</source>
            <translation>Ocultar</translation>
        </message>
        <message>
            <source>How far the background is out of focus.</source>
            <translation>Cuánto se desenfoca el fondo.</translation>
        </message>
        <message>
            <source>How far the enlarged portrait is sharpened.</source>
            <translation>Cuánto se enfoca el retrato ampliado.</translation>
        </message>
        <message>
            <source>How far the head moves.</source>
            <translation>Cuánto se mueve la cabeza.</translation>
        </message>
        <message>
            <source>How large the portrait stands in the picture (the mouse wheel over the preview).</source>
            <translation>Tamaño del retrato en la imagen (la rueda del ratón sobre la vista previa).</translation>
        </message>
        <message>
            <source>How long a process of its own was busy with computing one frame once more</source>
            <translation>Cuánto tardó un proceso aparte en volver a calcular una imagen</translation>
        </message>
        <message>
            <source>How much of the crop your face fills (W and S).</source>
            <translation>Cuánto del recorte ocupa su cara (W y S).</translation>
        </message>
        <message>
            <source>How often calls and recordings get a picture.</source>
            <translation>Con qué frecuencia reciben una imagen las llamadas y grabaciones.</translation>
        </message>
        <message>
            <source>How strongly mouth, eyes and brows move.</source>
            <translation>Con qué fuerza se mueven boca, ojos y cejas.</translation>
        </message>
        <message>
            <source>I may use this picture</source>
            <translation>Puedo usar esta imagen</translation>
        </message>
        <message>
            <source>IDLE</source>
            <translation>REPOSO</translation>
        </message>
        <message>
            <source>If there is none, the device keeps an old format: free it</source>
            <translation>Si no hay ninguno, el dispositivo conserva un formato antiguo: libérelo</translation>
        </message>
        <message>
            <source>In a call</source>
            <translation>En una llamada</translation>
        </message>
        <message>
            <source>In space</source>
            <translation>En el espacio</translation>
        </message>
        <message>
            <source>In the plane</source>
            <translation>En el plano</translation>
        </message>
        <message>
            <source>In this window 0 shows the slate; a key chosen here does so from every other one, too.</source>
            <translation>En esta ventana, 0 muestra la pantalla de espera; una tecla elegida aquí lo hace también desde cualquier otra.</translation>
        </message>
        <message>
            <source>Inside the network</source>
            <translation>Dentro de la red</translation>
        </message>
        <message>
            <source>Install OBS Studio 30 or newer from {address}</source>
            <translation>Instale OBS Studio 30 o posterior desde {address}</translation>
        </message>
        <message>
            <source>Install OBS Studio from {address} (it need not run), then restart your call program</source>
            <translation>Instale OBS Studio desde {address} (no hace falta que se ejecute) y reinicie su programa de llamada</translation>
        </message>
        <message>
            <source>Install it</source>
            <translation>Instálelo</translation>
        </message>
        <message>
            <source>Install it (for another kernel than linux, its own headers: linux-lts-headers, say)</source>
            <translation>Instálelo (para otro núcleo que linux, con sus propias cabeceras, por ejemplo linux-lts-headers)</translation>
        </message>
        <message>
            <source>Install your distribution's package v4l2loopback (or v4l2loopback-dkms)</source>
            <translation>Instale el paquete v4l2loopback (o v4l2loopback-dkms) de su distribución</translation>
        </message>
        <message>
            <source>Install your distribution's packages pipewire and wireplumber</source>
            <translation>Instale los paquetes pipewire y wireplumber de su distribución</translation>
        </message>
        <message>
            <source>It has no card with figures: nobody has told how good it is (mcnet-train evaluate measures it).</source>
            <translation>No tiene ficha con cifras: nadie ha dicho lo bueno que es (mcnet-train evaluate lo mide).</translation>
        </message>
        <message>
            <source>It is a pickled checkpoint without a card: it is read without running code, but nobody tells how good it is or under which licence it may be used.</source>
            <translation>Es un checkpoint pickle sin ficha: se lee sin ejecutar código, pero nadie dice lo bueno que es ni con qué licencia se puede usar.</translation>
        </message>
        <message>
            <source>It is being switched on…</source>
            <translation>Se está activando…</translation>
        </message>
        <message>
            <source>It is off: {why}.</source>
            <translation>Está apagado: {why}.</translation>
        </message>
        <message>
            <source>It is worse than showing the portrait as it is: its pictures are off by {copied:.0%} of what that would be.</source>
            <translation>Es peor que mostrar el retrato tal cual: sus imágenes se desvían un {copied:.0%} de lo que eso daría.</translation>
        </message>
        <message>
            <source>It shows me, or the person in it agrees, or nobody real is in it.</source>
            <translation>Me muestra a mí, la persona que aparece está de acuerdo, o no aparece nadie real.</translation>
        </message>
        <message>
            <source>Its card is being read…</source>
            <translation>Se está leyendo su ficha…</translation>
        </message>
        <message>
            <source>Join the group of video devices, then log out and in again</source>
            <translation>Únase al grupo de dispositivos de vídeo y después cierre la sesión y vuelva a abrirla</translation>
        </message>
        <message>
            <source>Keep these strengths under a name</source>
            <translation>Guardar estas intensidades con un nombre</translation>
        </message>
        <message>
            <source>Keep this crop and animate it</source>
            <translation>Conservar este recorte y animarlo</translation>
        </message>
        <message>
            <source>Key for the slate, from every window</source>
            <translation>Tecla de la pantalla de espera, desde toda ventana</translation>
        </message>
        <message>
            <source>Keys</source>
            <translation>Teclas</translation>
        </message>
        <message>
            <source>Kind of virtual camera</source>
            <translation>Tipo de cámara virtual</translation>
        </message>
        <message>
            <source>L1 of copying</source>
            <translation>L1 respecto a copiar</translation>
        </message>
        <message>
            <source>L1 of copying, of what it learns from</source>
            <translation>L1 respecto a copiar, en los datos de los que aprende</translation>
        </message>
        <message>
            <source>LIVE</source>
            <translation>EN VIVO</translation>
        </message>
        <message>
            <source>Landmarks and keypoints</source>
            <translation>Marcas y puntos clave</translation>
        </message>
        <message>
            <source>Language</source>
            <translation>Idioma</translation>
        </message>
        <message>
            <source>Lattice</source>
            <translation>Cuadrícula</translation>
        </message>
        <message>
            <source>Leave everything as it was (Escape)</source>
            <translation>Dejar todo como estaba (Esc)</translation>
        </message>
        <message>
            <source>Leave the slate up; the call keeps its picture (G)</source>
            <translation>Dejar la pantalla de espera; la llamada conserva su imagen (G)</translation>
        </message>
        <message>
            <source>Let a Stream Deck, OBS or scripts reach slate, portraits and recordings; on this computer alone.</source>
            <translation>Permite que un Stream Deck, OBS o scripts manejen la pantalla de espera, los retratos y las grabaciones; solo en este ordenador.</translation>
        </message>
        <message>
            <source>Let call programs see the output; it starts with the slate</source>
            <translation>Permite que los programas de llamada vean la salida; empieza con la pantalla de espera</translation>
        </message>
        <message>
            <source>Level</source>
            <translation>Nivel</translation>
        </message>
        <message>
            <source>Level of the microphone</source>
            <translation>Nivel del micrófono</translation>
        </message>
        <message>
            <source>Licence: {licence}</source>
            <translation>Licencia: {licence}</translation>
        </message>
        <message>
            <source>Lids</source>
            <translation>Párpados</translation>
        </message>
        <message>
            <source>Lift slate</source>
            <translation>Quitar espera</translation>
        </message>
        <message>
            <source>Light</source>
            <translation>Claro</translation>
        </message>
        <message>
            <source>Lips, jaw and chin.</source>
            <translation>Labios, mandíbula y mentón.</translation>
        </message>
        <message>
            <source>List all keys (?)</source>
            <translation>Ver todas las teclas (?)</translation>
        </message>
        <message>
            <source>Load the module</source>
            <translation>Cargue el módulo</translation>
        </message>
        <message>
            <source>Look again for a virtual camera</source>
            <translation>Buscar de nuevo una cámara virtual</translation>
        </message>
        <message>
            <source>Look again for cameras</source>
            <translation>Buscar cámaras de nuevo</translation>
        </message>
        <message>
            <source>Look again for microphones</source>
            <translation>Buscar micrófonos de nuevo</translation>
        </message>
        <message>
            <source>Look as the portrait does: the head turned alike, mouth and eyes as far open.</source>
            <translation>Póngase como el retrato: la cabeza girada igual, la boca y los ojos igual de abiertos.</translation>
        </message>
        <message>
            <source>Look as you do at rest: mouth closed, eyes open; any direction will do.</source>
            <translation>Póngase como en reposo: boca cerrada, ojos abiertos; sirve cualquier dirección.</translation>
        </message>
        <message>
            <source>Looking for cameras…</source>
            <translation>Buscando cámaras…</translation>
        </message>
        <message>
            <source>Looking for one…</source>
            <translation>Buscando…</translation>
        </message>
        <message>
            <source>MEASURING</source>
            <translation>MIDIENDO</translation>
        </message>
        <message>
            <source>Make another token; the old one is of no use then</source>
            <translation>Crear otro token; el anterior deja de servir</translation>
        </message>
        <message>
            <source>Masks</source>
            <translation>Máscaras</translation>
        </message>
        <message>
            <source>Measure</source>
            <translation>Medir</translation>
        </message>
        <message>
            <source>Measured: {words}.</source>
            <translation>Medido: {words}.</translation>
        </message>
        <message>
            <source>Microphone</source>
            <translation>Micrófono</translation>
        </message>
        <message>
            <source>Microphone for calls, in step</source>
            <translation>Micrófono para llamadas, acompasado</translation>
        </message>
        <message>
            <source>Mirror the output</source>
            <translation>Invertir la salida</translation>
        </message>
        <message>
            <source>Mirror the preview</source>
            <translation>Vista previa en espejo</translation>
        </message>
        <message>
            <source>Mirror what the call sees</source>
            <translation>Invertir lo que ve la llamada</translation>
        </message>
        <message>
            <source>Missing: {link}</source>
            <translation>Falta: {link}</translation>
        </message>
        <message>
            <source>Model</source>
            <translation>Modelo</translation>
        </message>
        <message>
            <source>Models (*.safetensors *.pth *.tar);;All files (*)</source>
            <translation>Modelos (*.safetensors *.pth *.tar);;Todos los archivos (*)</translation>
        </message>
        <message>
            <source>Motion</source>
            <translation>Movimiento</translation>
        </message>
        <message>
            <source>Motion files (*.safetensors);;All files (*)</source>
            <translation>Archivos de movimiento (*.safetensors);;Todos los archivos (*)</translation>
        </message>
        <message>
            <source>Motion file…</source>
            <translation>Archivo de movimiento…</translation>
        </message>
        <message>
            <source>Mouth</source>
            <translation>Boca</translation>
        </message>
        <message>
            <source>Move the crop down (J)</source>
            <translation>Mover el recorte hacia abajo (J)</translation>
        </message>
        <message>
            <source>Move the crop to the left (H)</source>
            <translation>Mover el recorte a la izquierda (H)</translation>
        </message>
        <message>
            <source>Move the crop to the right (K)</source>
            <translation>Mover el recorte a la derecha (K)</translation>
        </message>
        <message>
            <source>Move the crop up (U)</source>
            <translation>Mover el recorte hacia arriba (U)</translation>
        </message>
        <message>
            <source>Moves gently</source>
            <translation>Se mueve suavemente</translation>
        </message>
        <message>
            <source>NO CAMERA</source>
            <translation>SIN CÁMARA</translation>
        </message>
        <message>
            <source>NO FACE</source>
            <translation>SIN CARA</translation>
        </message>
        <message>
            <source>Name of the portrait</source>
            <translation>Nombre del retrato</translation>
        </message>
        <message>
            <source>Name of these strengths:</source>
            <translation>Nombre de estas intensidades:</translation>
        </message>
        <message>
            <source>Nearness</source>
            <translation>Cercanía</translation>
        </message>
        <message>
            <source>Network camera</source>
            <translation>Cámara de red</translation>
        </message>
        <message>
            <source>Network camera…</source>
            <translation>Cámara de red…</translation>
        </message>
        <message>
            <source>New recordings have your voice, in step with the picture. Switched off, the microphone is closed.</source>
            <translation>Las nuevas grabaciones llevan su voz, acompasada con la imagen. Apagado, el micrófono está cerrado.</translation>
        </message>
        <message>
            <source>New token</source>
            <translation>Nuevo token</translation>
        </message>
        <message>
            <source>Next portrait</source>
            <translation>Retrato siguiente</translation>
        </message>
        <message>
            <source>Next step</source>
            <translation>Paso siguiente</translation>
        </message>
        <message>
            <source>No camera</source>
            <translation>Sin cámara</translation>
        </message>
        <message>
            <source>No camera was found. Plug one in and refresh, or let a video file stand in for it.</source>
            <translation>No se encontró ninguna cámara. Conecte una y actualice, o deje que un archivo de vídeo la sustituya.</translation>
        </message>
        <message>
            <source>No card: nobody tells what it learned from, or how good it is</source>
            <translation>Sin ficha: nadie dice de qué aprendió ni lo bueno que es</translation>
        </message>
        <message>
            <source>No kernel module and no root, also with Secure Boot. Firefox, Chromium and OBS can list it.</source>
            <translation>Sin módulo del núcleo ni root, también con Secure Boot. Firefox, Chromium y OBS pueden ofrecerla.</translation>
        </message>
        <message>
            <source>No picture goes out any more.</source>
            <translation>Ya no sale ninguna imagen.</translation>
        </message>
        <message>
            <source>Nod</source>
            <translation>Asentir</translation>
        </message>
        <message>
            <source>None: transparent</source>
            <translation>Ninguno: transparente</translation>
        </message>
        <message>
            <source>Not all of the list of portraits could be read: {said}. A portrait may have lost its name or its crop; {kept}.</source>
            <translation>No se pudo leer toda la lista de retratos: {said}. Puede que un retrato haya perdido su nombre o su recorte; {kept}.</translation>
        </message>
        <message>
            <source>Not all presets could be used: {said}. All others are there; {kept}.</source>
            <translation>No se pudieron usar todos los preajustes: {said}. Los demás están; {kept}.</translation>
        </message>
        <message>
            <source>Not all settings could be used: {said}. All others are in force; {kept}.</source>
            <translation>No se pudieron usar todos los ajustes: {said}. Los demás están en vigor; {kept}.</translation>
        </message>
        <message>
            <source>Not in space: {reason}.</source>
            <translation>No en el espacio: {reason}.</translation>
        </message>
        <message>
            <source>Not possible here while another window has the focus: {words}.</source>
            <translation>Aquí no es posible mientras otra ventana tenga el foco: {words}.</translation>
        </message>
        <message>
            <source>Not yet: {missing}</source>
            <translation>Todavía no: {missing}</translation>
        </message>
        <message>
            <source>Nothing is heard: {trouble}.</source>
            <translation>No se oye nada: {trouble}.</translation>
        </message>
        <message>
            <source>Nothing says under which licence it may be used.</source>
            <translation>En ningún lugar consta con qué licencia se puede usar.</translation>
        </message>
        <message>
            <source>Nothing to improve.</source>
            <translation>Nada que mejorar.</translation>
        </message>
        <message>
            <source>Nudge</source>
            <translation>Desplazar</translation>
        </message>
        <message>
            <source>Nudge it down</source>
            <translation>Desplazarlo hacia abajo</translation>
        </message>
        <message>
            <source>Nudge it left</source>
            <translation>Desplazarlo a la izquierda</translation>
        </message>
        <message>
            <source>Nudge it right</source>
            <translation>Desplazarlo a la derecha</translation>
        </message>
        <message>
            <source>Nudge the crop up</source>
            <translation>Desplazar el recorte hacia arriba</translation>
        </message>
        <message>
            <source>Occlusion</source>
            <translation>Oclusión</translation>
        </message>
        <message>
            <source>Of the picture that calls and recordings get, in pixels.</source>
            <translation>De la imagen que reciben las llamadas y grabaciones, en píxeles.</translation>
        </message>
        <message>
            <source>Of the window's texts. A change takes effect at the app's next start.</source>
            <translation>De los textos de la ventana. Un cambio surte efecto en el próximo inicio de la aplicación.</translation>
        </message>
        <message>
            <source>Offer call programs the microphone as late as the picture is, so that lips and voice agree. It is heard only while a program listens, and silent while you show the slate.</source>
            <translation>Ofrece a los programas de llamada el micrófono con el retraso de la imagen, para que labios y voz coincidan. Solo se escucha mientras escucha un programa, y calla mientras usted muestra la pantalla de espera.</translation>
        </message>
        <message>
            <source>On: {device}. Choose it in your call program.</source>
            <translation>Activada: {device}. Elíjala en su programa de llamada.</translation>
        </message>
        <message>
            <source>One colour</source>
            <translation>Un color</translation>
        </message>
        <message>
            <source>One moment: it is being read…</source>
            <translation>Un momento: se está leyendo…</translation>
        </message>
        <message>
            <source>Open</source>
            <translation>Abrir</translation>
        </message>
        <message>
            <source>Open OBS, press Start Virtual Camera once, allow the extension, press Stop, and restart this app</source>
            <translation>Abra OBS, pulse una vez «Iniciar cámara virtual», permita la extensión, deténgala y reinicie esta aplicación</translation>
        </message>
        <message>
            <source>Open folder</source>
            <translation>Abrir carpeta</translation>
        </message>
        <message>
            <source>Open what is written about this model</source>
            <translation>Abrir lo que está escrito sobre este modelo</translation>
        </message>
        <message>
            <source>OpenCV does not load: {error}; on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1</source>
            <translation>OpenCV no se carga: {error}; en Debian o Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1</translation>
        </message>
        <message>
            <source>OpenVINO alone knows it, and backend {backend} was chosen; use backend auto, or bf16 or fp32</source>
            <translation>solo OpenVINO lo permite, y se eligió el motor {backend}; use el motor auto, o bf16 o fp32</translation>
        </message>
        <message>
            <source>OpenVINO computes on CPUs and Intel GPUs only, and {device} was chosen</source>
            <translation>OpenVINO solo calcula en procesadores y GPU de Intel, y se eligió {device}</translation>
        </message>
        <message>
            <source>OpenVINO finds no Intel GPU: there is none, or its driver for computing (OpenCL) is missing</source>
            <translation>OpenVINO no encuentra ninguna GPU de Intel: no la hay, o falta su controlador de cálculo (OpenCL)</translation>
        </message>
        <message>
            <source>OpenVINO knows no GPU on macOS (device mps is Apple's)</source>
            <translation>OpenVINO no conoce ninguna GPU en macOS (el dispositivo mps es el de Apple)</translation>
        </message>
        <message>
            <source>OpenVINO was measured on x86-64 CPUs only, and this is {machine}</source>
            <translation>OpenVINO solo se midió en procesadores x86-64, y este es {machine}</translation>
        </message>
        <message>
            <source>Opening…</source>
            <translation>Abriendo…</translation>
        </message>
        <message>
            <source>Other programs</source>
            <translation>Otros programas</translation>
        </message>
        <message>
            <source>Output and computer</source>
            <translation>Salida y ordenador</translation>
        </message>
        <message>
            <source>Output preview</source>
            <translation>Vista previa de la salida</translation>
        </message>
        <message>
            <source>Output rate</source>
            <translation>Frecuencia de salida</translation>
        </message>
        <message>
            <source>Output size</source>
            <translation>Tamaño de salida</translation>
        </message>
        <message>
            <source>Overlay</source>
            <translation>Superposición</translation>
        </message>
        <message>
            <source>PREVIEW</source>
            <translation>VISTA PREVIA</translation>
        </message>
        <message>
            <source>Panic key</source>
            <translation>Tecla de emergencia</translation>
        </message>
        <message>
            <source>Parts of expression</source>
            <translation>Partes de la expresión</translation>
        </message>
        <message>
            <source>Parts of motion</source>
            <translation>Partes del movimiento</translation>
        </message>
        <message>
            <source>Paste a picture</source>
            <translation>Pegar una imagen</translation>
        </message>
        <message>
            <source>Pause the preview</source>
            <translation>Pausar la vista previa</translation>
        </message>
        <message>
            <source>Pick one on the left, or add a picture of yours</source>
            <translation>Elija uno a la izquierda, o añada una imagen propia</translation>
        </message>
        <message>
            <source>Picture</source>
            <translation>Imagen</translation>
        </message>
        <message>
            <source>Pictures ({endings});;All files (*)</source>
            <translation>Imágenes ({endings});;Todos los archivos (*)</translation>
        </message>
        <message>
            <source>PipeWire camera {detail}: got a picture of {shape}, expected {expected}</source>
            <translation>cámara PipeWire {detail}: la imagen es {shape}, se esperaba {expected}</translation>
        </message>
        <message>
            <source>PipeWire did not answer within {seconds:g} s</source>
            <translation>PipeWire no respondió en {seconds:g} s</translation>
        </message>
        <message>
            <source>PipeWire did not answer within {seconds} s</source>
            <translation>PipeWire no respondió en {seconds} s</translation>
        </message>
        <message>
            <source>PipeWire does not run: {error}</source>
            <translation>PipeWire no se ejecuta: {error}</translation>
        </message>
        <message>
            <source>PipeWire has ended</source>
            <translation>PipeWire ha terminado</translation>
        </message>
        <message>
            <source>PipeWire has failed: {said}</source>
            <translation>PipeWire ha fallado: {said}</translation>
        </message>
        <message>
            <source>PipeWire has refused the camera: {error}</source>
            <translation>PipeWire ha rechazado la cámara: {error}</translation>
        </message>
        <message>
            <source>PipeWire has refused the microphone: {error}</source>
            <translation>PipeWire ha rechazado el micrófono: {error}</translation>
        </message>
        <message>
            <source>PipeWire has refused to hear the microphone: {error}</source>
            <translation>PipeWire ha rechazado escuchar el micrófono: {error}</translation>
        </message>
        <message>
            <source>PipeWire is installed, but does not run: nothing listens at {socket}.</source>
            <translation>PipeWire está instalado, pero no se ejecuta: nada escucha en {socket}.</translation>
        </message>
        <message>
            <source>PipeWire is not installed.</source>
            <translation>PipeWire no está instalado.</translation>
        </message>
        <message>
            <source>PipeWire makes no node (error {number})</source>
            <translation>PipeWire no crea ningún nodo (error {number})</translation>
        </message>
        <message>
            <source>PipeWire runs, but cannot be used: {error}.</source>
            <translation>PipeWire se ejecuta, pero no se puede usar: {error}.</translation>
        </message>
        <message>
            <source>PipeWire runs, but you may not use it ({socket}).</source>
            <translation>PipeWire se ejecuta, pero no puede usarlo ({socket}).</translation>
        </message>
        <message>
            <source>PipeWire {version} runs, but without a session manager: no program would reach the camera.</source>
            <translation>PipeWire {version} se ejecuta, pero sin gestor de sesión: ningún programa llegaría a la cámara.</translation>
        </message>
        <message>
            <source>PipeWire {version} with {manager} can have the camera {name}, without a kernel module.</source>
            <translation>PipeWire {version} con {manager} puede ofrecer la cámara {name}, sin módulo del núcleo.</translation>
        </message>
        <message>
            <source>PipeWire's daemon cannot be reached; start it: systemctl --user start pipewire</source>
            <translation>no se puede llegar al servicio de PipeWire; inícielo: systemctl --user start pipewire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be loaded ({error}); install PipeWire</source>
            <translation>no se puede cargar la biblioteca de PipeWire ({error}); instale PipeWire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be used: its settings or plug-ins are missing; install PipeWire</source>
            <translation>no se puede usar la biblioteca de PipeWire: faltan sus ajustes o complementos; instale PipeWire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be used: its thread does not start</source>
            <translation>no se puede usar la biblioteca de PipeWire: su hilo no arranca</translation>
        </message>
        <message>
            <source>PipeWire's library is too old: it lacks {name}; update PipeWire</source>
            <translation>la biblioteca de PipeWire es demasiado antigua: le falta {name}; actualice PipeWire</translation>
        </message>
        <message>
            <source>Play motion that was recorded before, in a loop, instead of a camera</source>
            <translation>Reproducir en bucle un movimiento grabado antes, en lugar de una cámara</translation>
        </message>
        <message>
            <source>Port</source>
            <translation>Puerto</translation>
        </message>
        <message>
            <source>Port of control from outside</source>
            <translation>Puerto del control externo</translation>
        </message>
        <message>
            <source>Portrait</source>
            <translation>Retrato</translation>
        </message>
        <message>
            <source>Portrait over your picture: fainter</source>
            <translation>Retrato sobre su imagen: más tenue</translation>
        </message>
        <message>
            <source>Portrait over your picture: stronger</source>
            <translation>Retrato sobre su imagen: más fuerte</translation>
        </message>
        <message>
            <source>Portrait size</source>
            <translation>Tamaño del retrato</translation>
        </message>
        <message>
            <source>Portraits</source>
            <translation>Retratos</translation>
        </message>
        <message>
            <source>Pose</source>
            <translation>Postura</translation>
        </message>
        <message>
            <source>Preset</source>
            <translation>Preajuste</translation>
        </message>
        <message>
            <source>Previous portrait</source>
            <translation>Retrato anterior</translation>
        </message>
        <message>
            <source>Processor</source>
            <translation>Procesador</translation>
        </message>
        <message>
            <source>Programs that show the token can control this window on port {port}.</source>
            <translation>Los programas que muestren el token pueden controlar esta ventana en el puerto {port}.</translation>
        </message>
        <message>
            <source>Put recordings and snapshots elsewhere</source>
            <translation>Guardar las grabaciones e instantáneas en otro lugar</translation>
        </message>
        <message>
            <source>Put the crop back where the face is</source>
            <translation>Devolver el recorte a donde está la cara</translation>
        </message>
        <message>
            <source>Put the first steps away; they come back under Window</source>
            <translation>Guardar los primeros pasos; vuelven en «Ventana»</translation>
        </message>
        <message>
            <source>Put the portrait back in the middle, in its usual size (a double click on the preview)</source>
            <translation>Devolver el retrato al centro, en su tamaño habitual (doble clic en la vista previa)</translation>
        </message>
        <message>
            <source>Put this message away</source>
            <translation>Quitar este mensaje</translation>
        </message>
        <message>
            <source>Qt's part for sound cannot be loaded ({error}); {remedy}</source>
            <translation>No se puede cargar la parte de Qt para el sonido ({error}); {remedy}</translation>
        </message>
        <message>
            <source>Quit</source>
            <translation>Salir</translation>
        </message>
        <message>
            <source>Rate</source>
            <translation>Frecuencia</translation>
        </message>
        <message>
            <source>Read its card</source>
            <translation>Leer su ficha</translation>
        </message>
        <message>
            <source>Recheck</source>
            <translation>Revisar de nuevo</translation>
        </message>
        <message>
            <source>Record</source>
            <translation>Grabar</translation>
        </message>
        <message>
            <source>Record my microphone</source>
            <translation>Grabar mi micrófono</translation>
        </message>
        <message>
            <source>Record my motion</source>
            <translation>Grabar mi movimiento</translation>
        </message>
        <message>
            <source>Record the output (V)</source>
            <translation>Grabar la salida (V)</translation>
        </message>
        <message>
            <source>Record your motion, without pictures, to play it on any portrait later</source>
            <translation>Graba su movimiento, sin imágenes, para reproducirlo después en cualquier retrato</translation>
        </message>
        <message>
            <source>Record, or capture the window with your call program</source>
            <translation>Grabe, o comparta la ventana con su programa de llamada</translation>
        </message>
        <message>
            <source>Recordings</source>
            <translation>Grabaciones</translation>
        </message>
        <message>
            <source>Recordings (WebM) and snapshots are transparent; the call sees this colour:</source>
            <translation>Las grabaciones (WebM) e instantáneas son transparentes; la llamada ve este color:</translation>
        </message>
        <message>
            <source>Recordings and snapshots say, in a signed and standard way (C2PA), that AI generated them, and with which model; nothing of you. Others can read it, and can remove it.</source>
            <translation>Las grabaciones e instantáneas dicen, de forma firmada y estándar (C2PA), que las generó una IA y con qué modelo; nada de usted. Otros pueden leerlo, y pueden quitarlo.</translation>
        </message>
        <message>
            <source>Refresh</source>
            <translation>Actualizar</translation>
        </message>
        <message>
            <source>Refresh cameras</source>
            <translation>Actualizar cámaras</translation>
        </message>
        <message>
            <source>Refresh microphones</source>
            <translation>Actualizar micrófonos</translation>
        </message>
        <message>
            <source>Remember the calibration</source>
            <translation>Recordar la calibración</translation>
        </message>
        <message>
            <source>Remove</source>
            <translation>Quitar</translation>
        </message>
        <message>
            <source>Remove it</source>
            <translation>Quitarlo</translation>
        </message>
        <message>
            <source>Rename</source>
            <translation>Cambiar nombre</translation>
        </message>
        <message>
            <source>Rename a portrait of yours</source>
            <translation>Cambiar el nombre de un retrato propio</translation>
        </message>
        <message>
            <source>Rename a preset</source>
            <translation>Cambiar el nombre de un preajuste</translation>
        </message>
        <message>
            <source>Rename…</source>
            <translation>Cambiar nombre…</translation>
        </message>
        <message>
            <source>Reset the place</source>
            <translation>Restablecer el lugar</translation>
        </message>
        <message>
            <source>Rests still</source>
            <translation>Descansa quieto</translation>
        </message>
        <message>
            <source>SLATE</source>
            <translation>ESPERA</translation>
        </message>
        <message>
            <source>STANDBY</source>
            <translation>PREPARADO</translation>
        </message>
        <message>
            <source>STARTING</source>
            <translation>INICIANDO</translation>
        </message>
        <message>
            <source>Save</source>
            <translation>Guardar</translation>
        </message>
        <message>
            <source>Save a picture of the output</source>
            <translation>Guardar una imagen de la salida</translation>
        </message>
        <message>
            <source>Save a picture of the output (P)</source>
            <translation>Guardar una imagen de la salida (P)</translation>
        </message>
        <message>
            <source>Save a preset</source>
            <translation>Guardar un preajuste</translation>
        </message>
        <message>
            <source>Save as…</source>
            <translation>Guardar como…</translation>
        </message>
        <message>
            <source>Saved: {path}</source>
            <translation>Guardado: {path}</translation>
        </message>
        <message>
            <source>Says in the picture that it is synthetic. Please leave it on when others watch.</source>
            <translation>Dice en la imagen que es sintética. Por favor, déjelo puesto cuando otros miren.</translation>
        </message>
        <message>
            <source>Scene</source>
            <translation>Escena</translation>
        </message>
        <message>
            <source>Score of the portrait</source>
            <translation>Puntuación del retrato</translation>
        </message>
        <message>
            <source>Score {score} of 100</source>
            <translation>Puntuación {score} de 100</translation>
        </message>
        <message>
            <source>Score {score} of 100: {remarks}</source>
            <translation>Puntuación {score} de 100: {remarks}</translation>
        </message>
        <message>
            <source>Secure Boot is on: if modprobe says that the key was rejected, enrol the key that signs the module, restart, and confirm it in the blue menu</source>
            <translation>Secure Boot está activado: si modprobe dice que la clave fue rechazada, inscriba la clave que firma el módulo, reinicie y confírmela en el menú azul</translation>
        </message>
        <message>
            <source>See and adjust the crop</source>
            <translation>Ver y ajustar el recorte</translation>
        </message>
        <message>
            <source>See which program it is, and close it</source>
            <translation>Mire qué programa es, y ciérrelo</translation>
        </message>
        <message>
            <source>Settings &gt; Privacy &amp; security &gt; Camera</source>
            <translation>Configuración &gt; Privacidad y seguridad &gt; Cámara</translation>
        </message>
        <message>
            <source>Sharpness</source>
            <translation>Nitidez</translation>
        </message>
        <message>
            <source>Shift</source>
            <translation>Traslación</translation>
        </message>
        <message>
            <source>Shoulders, hair and the room are seen as far as the photo shows them, not the portrait's square alone.</source>
            <translation>Se ven los hombros, el pelo y la habitación hasta donde los muestra la foto, no solo el cuadrado del retrato.</translation>
        </message>
        <message>
            <source>Show below what is measured (I).</source>
            <translation>Muestra abajo lo que se mide (I).</translation>
        </message>
        <message>
            <source>Show me the output as in a mirror (R), but for the badge; the call sees it unchanged.</source>
            <translation>Me muestra la salida como en un espejo (R), salvo el distintivo; la llamada la ve sin cambios.</translation>
        </message>
        <message>
            <source>Show my camera picture</source>
            <translation>Mostrar la imagen de mi cámara</translation>
        </message>
        <message>
            <source>Show no face at once (0; from a dialog Ctrl+0)</source>
            <translation>No mostrar ninguna cara de inmediato (0; desde un diálogo Ctrl+0)</translation>
        </message>
        <message>
            <source>Show or hide my camera picture</source>
            <translation>Mostrar u ocultar la imagen de mi cámara</translation>
        </message>
        <message>
            <source>Show the avatar in the preview again (G)</source>
            <translation>Mostrar de nuevo el avatar en la vista previa (G)</translation>
        </message>
        <message>
            <source>Show the avatar to the call (G)</source>
            <translation>Mostrar el avatar a la llamada (G)</translation>
        </message>
        <message>
            <source>Show the checklist of the first launch.</source>
            <translation>Muestra la lista del primer inicio.</translation>
        </message>
        <message>
            <source>Show the controls here</source>
            <translation>Mostrar los controles aquí</translation>
        </message>
        <message>
            <source>Show the folder of recordings and snapshots</source>
            <translation>Mostrar la carpeta de grabaciones e instantáneas</translation>
        </message>
        <message>
            <source>Show the next step</source>
            <translation>Mostrar el paso siguiente</translation>
        </message>
        <message>
            <source>Show the portraits here</source>
            <translation>Mostrar los retratos aquí</translation>
        </message>
        <message>
            <source>Show the slate without a picture again</source>
            <translation>Mostrar de nuevo la pantalla de espera sin imagen</translation>
        </message>
        <message>
            <source>Show the whole photo</source>
            <translation>Mostrar toda la foto</translation>
        </message>
        <message>
            <source>Show what the network does with your motion (N).</source>
            <translation>Muestra lo que hace la red con su movimiento (N).</translation>
        </message>
        <message>
            <source>Show window</source>
            <translation>Mostrar ventana</translation>
        </message>
        <message>
            <source>Shows the portrait's own pores and hairs, which the network leaves out, as far as its picture has the pixels. It takes some milliseconds per picture: switch it off if the avatar stutters.</source>
            <translation>Muestra los poros y cabellos propios del retrato, que la red omite, hasta donde su imagen tiene píxeles. Cuesta unos milisegundos por imagen: desactívelo si el avatar va a saltos.</translation>
        </message>
        <message>
            <source>Shows the slate from every window: press the key that you want, such as Ctrl+Alt+0.</source>
            <translation>Muestra la pantalla de espera desde cualquier ventana: pulse la tecla que quiera, como Ctrl+Alt+0.</translation>
        </message>
        <message>
            <source>Sideways</source>
            <translation>A los lados</translation>
        </message>
        <message>
            <source>Silent while you show the slate.</source>
            <translation>En silencio mientras muestra la pantalla de espera.</translation>
        </message>
        <message>
            <source>Size</source>
            <translation>Tamaño</translation>
        </message>
        <message>
            <source>Slate</source>
            <translation>Espera</translation>
        </message>
        <message>
            <source>Slate at once: the call sees no face</source>
            <translation>Pantalla de espera al instante: la llamada no ve ninguna cara</translation>
        </message>
        <message>
            <source>Slate key</source>
            <translation>Tecla de espera</translation>
        </message>
        <message>
            <source>Slate says</source>
            <translation>Texto</translation>
        </message>
        <message>
            <source>Slate's picture…</source>
            <translation>Imagen de espera…</translation>
        </message>
        <message>
            <source>Smoothing</source>
            <translation>Suavizado</translation>
        </message>
        <message>
            <source>Snapshot</source>
            <translation>Instantánea</translation>
        </message>
        <message>
            <source>Something unexpected went wrong ({key}): {error}.</source>
            <translation>Algo inesperado salió mal ({key}): {error}.</translation>
        </message>
        <message>
            <source>Something unexpected went wrong in the window: {kind}: {error}. The log tells more.</source>
            <translation>Algo inesperado salió mal en la ventana: {kind}: {error}. El registro dice más.</translation>
        </message>
        <message>
            <source>Sound</source>
            <translation>Sonido</translation>
        </message>
        <message>
            <source>Speak as you will in the recording: the bar should reach the middle, and not turn red.</source>
            <translation>Hable como lo hará en la grabación: la barra debe llegar a la mitad y no ponerse roja.</translation>
        </message>
        <message>
            <source>Speed here: not measured yet</source>
            <translation>Velocidad aquí: aún sin medir</translation>
        </message>
        <message>
            <source>Speed here: {frame_ms:.3g} ms per frame, measured</source>
            <translation>Velocidad aquí: {frame_ms:.3g} ms por imagen, medida</translation>
        </message>
        <message>
            <source>Square to animate</source>
            <translation>Cuadrado que se anima</translation>
        </message>
        <message>
            <source>Standard</source>
            <translation>Estándar</translation>
        </message>
        <message>
            <source>Start PipeWire again</source>
            <translation>Reinicie PipeWire</translation>
        </message>
        <message>
            <source>Start again</source>
            <translation>Reiniciar</translation>
        </message>
        <message>
            <source>Start as usual</source>
            <translation>Iniciar como siempre</translation>
        </message>
        <message>
            <source>Start it, now and at every login</source>
            <translation>Inícielo, ahora y en cada inicio de sesión</translation>
        </message>
        <message>
            <source>Start or stop the recording</source>
            <translation>Iniciar o detener la grabación</translation>
        </message>
        <message>
            <source>Start safely</source>
            <translation>Inicio seguro</translation>
        </message>
        <message>
            <source>Start the app as the user who is logged in, and not with sudo</source>
            <translation>Inicie la aplicación como el usuario que ha iniciado la sesión, y no con sudo</translation>
        </message>
        <message>
            <source>Statistics</source>
            <translation>Estadísticas</translation>
        </message>
        <message>
            <source>Status</source>
            <translation>Estado</translation>
        </message>
        <message>
            <source>Step {number}, {title}: {state}. {text}</source>
            <translation>Paso {number}, {title}: {state}. {text}</translation>
        </message>
        <message>
            <source>Step {step} of {steps}</source>
            <translation>Paso {step} de {steps}</translation>
        </message>
        <message>
            <source>Still learning: step unknown</source>
            <translation>Aún aprende: paso desconocido</translation>
        </message>
        <message>
            <source>Still learning: step {step}</source>
            <translation>Aún aprende: paso {step}</translation>
        </message>
        <message>
            <source>Still learning: step {step} of {of}</source>
            <translation>Aún aprende: paso {step} de {of}</translation>
        </message>
        <message>
            <source>Stop</source>
            <translation>Parar</translation>
        </message>
        <message>
            <source>Stop everything and quit</source>
            <translation>Parar todo y salir</translation>
        </message>
        <message>
            <source>Stop painting it, as saves power; the call and recordings go on.</source>
            <translation>Deja de dibujarla, lo que ahorra energía; la llamada y las grabaciones continúan.</translation>
        </message>
        <message>
            <source>Stop recording</source>
            <translation>Detener la grabación</translation>
        </message>
        <message>
            <source>Stop recording my motion</source>
            <translation>Detener la grabación de mi movimiento</translation>
        </message>
        <message>
            <source>Stop the virtual camera in OBS</source>
            <translation>Detenga la cámara virtual en OBS</translation>
        </message>
        <message>
            <source>Straighten</source>
            <translation>Enderezar</translation>
        </message>
        <message>
            <source>Strengths of motion and expression, with all their parts, by name. Each portrait remembers its own.</source>
            <translation>Intensidades de movimiento y expresión, con todas sus partes, con un nombre. Cada retrato recuerda las suyas.</translation>
        </message>
        <message>
            <source>Switch on</source>
            <translation>Encender</translation>
        </message>
        <message>
            <source>Switch the virtual camera off first: a call keeps what it began with.</source>
            <translation>Apague primero la cámara virtual: una llamada conserva aquello con lo que empezó.</translation>
        </message>
        <message>
            <source>Switch the virtual camera off first: no model runs.</source>
            <translation>Apague primero la cámara virtual: no hay ningún modelo en marcha.</translation>
        </message>
        <message>
            <source>System</source>
            <translation>Sistema</translation>
        </message>
        <message>
            <source>System Settings &gt; Privacy &amp; Security &gt; Camera</source>
            <translation>Ajustes del Sistema &gt; Privacidad y seguridad &gt; Cámara</translation>
        </message>
        <message>
            <source>Take this picture of yours out of the gallery (Delete)</source>
            <translation>Quitar de la galería esta imagen propia (Supr)</translation>
        </message>
        <message>
            <source>Text of the slate</source>
            <translation>Texto de la pantalla de espera</translation>
        </message>
        <message>
            <source>The address that the camera's app shows, such as http://192.168.1.20:8080/video or rtsp://192.168.1.20/live.
If it wants a password: http://USER:PASSWORD@192.168.1.20:8080/video</source>
            <translation>La dirección que muestra la aplicación de la cámara, como http://192.168.1.20:8080/video o rtsp://192.168.1.20/live.
Si pide una contraseña: http://USER:PASSWORD@192.168.1.20:8080/video</translation>
        </message>
        <message>
            <source>The app did not end in order last time: it crashed or was killed.</source>
            <translation>La aplicación no terminó bien la última vez: falló o se la cerró a la fuerza.</translation>
        </message>
        <message>
            <source>The avatar keeps its own face and looks where you look, however you were turned at the calibration.</source>
            <translation>El avatar conserva su propia cara y mira adonde usted mira, sea cual sea su orientación en la calibración.</translation>
        </message>
        <message>
            <source>The avatar moves as you move in the picture since the calibration: the paper's way.</source>
            <translation>El avatar se mueve como usted se mueve en la imagen desde la calibración: a la manera del artículo.</translation>
        </message>
        <message>
            <source>The avatar takes your very pose and face: for a portrait of yourself.</source>
            <translation>El avatar toma exactamente su postura y su cara: para un retrato de usted.</translation>
        </message>
        <message>
            <source>The background stays still behind the person, instead of moving along with the head.</source>
            <translation>El fondo queda quieto detrás de la persona, en lugar de moverse con la cabeza.</translation>
        </message>
        <message>
            <source>The brows raised and knit.</source>
            <translation>Las cejas alzadas y fruncidas.</translation>
        </message>
        <message>
            <source>The camera that sees you. Only the avatar leaves this app, never its picture.</source>
            <translation>La cámara que le ve. Solo el avatar sale de esta aplicación, nunca su imagen.</translation>
        </message>
        <message>
            <source>The camera {name} is away ({error}). It comes back by itself.</source>
            <translation>La cámara {name} se ha ido ({error}). Vuelve por sí sola.</translation>
        </message>
        <message>
            <source>The card beside {name} is of other weights: do not trust what it says.</source>
            <translation>La ficha junto a {name} es de otros pesos: no se fíe de lo que dice.</translation>
        </message>
        <message>
            <source>The first nine portraits</source>
            <translation>Los primeros nueve retratos</translation>
        </message>
        <message>
            <source>The folder {folder} does not answer: what goes there waits for it. Choose another folder under “Output and computer” if it stays so.</source>
            <translation>La carpeta {folder} no responde: lo que va allí la espera. Elija otra carpeta en «Salida y ordenador» si sigue así.</translation>
        </message>
        <message>
            <source>The head leant towards a shoulder.</source>
            <translation>La cabeza inclinada hacia un hombro.</translation>
        </message>
        <message>
            <source>The head moved in the picture.</source>
            <translation>La cabeza desplazada en la imagen.</translation>
        </message>
        <message>
            <source>The head moved towards the camera and away from it.</source>
            <translation>La cabeza acercada a la cámara y alejada de ella.</translation>
        </message>
        <message>
            <source>The head raised and lowered.</source>
            <translation>La cabeza alzada y bajada.</translation>
        </message>
        <message>
            <source>The head turned to the sides.</source>
            <translation>La cabeza girada a los lados.</translation>
        </message>
        <message>
            <source>The key is not heard: {why}.</source>
            <translation>No se escucha la tecla: {why}.</translation>
        </message>
        <message>
            <source>The language changes at the next start of the app.</source>
            <translation>El idioma cambia en el próximo inicio de la aplicación.</translation>
        </message>
        <message>
            <source>The microphone for calls is being made…</source>
            <translation>Se está creando el micrófono para llamadas…</translation>
        </message>
        <message>
            <source>The microphone is being opened…</source>
            <translation>Se está abriendo el micrófono…</translation>
        </message>
        <message>
            <source>The model has given no picture for a while, so the output shows the slate. It goes on by itself once there is one; if it stays so, start again.</source>
            <translation>El modelo no ha dado ninguna imagen desde hace un rato, así que la salida muestra la pantalla de espera. Continúa por sí sola en cuanto haya una; si sigue así, reinicie.</translation>
        </message>
        <message>
            <source>The model's card</source>
            <translation>La ficha del modelo</translation>
        </message>
        <message>
            <source>The network that animates the portrait: the bundled one, or a file or folder of yours.</source>
            <translation>La red que anima el retrato: la incluida, o un archivo o carpeta propios.</translation>
        </message>
        <message>
            <source>The one chosen before</source>
            <translation>El elegido antes</translation>
        </message>
        <message>
            <source>The output shows the slate.</source>
            <translation>La salida muestra la pantalla de espera.</translation>
        </message>
        <message>
            <source>The picture is that late. Set this delay for your microphone (OBS: Advanced audio properties, sync offset) and lips and sound agree.</source>
            <translation>La imagen llega con ese retraso. Ponga este retardo a su micrófono (OBS: propiedades de audio avanzadas, desfase de sincronización) y los labios coincidirán con el sonido.</translation>
        </message>
        <message>
            <source>The portrait over your picture (Z and C); for motion in the plane, to line up the pose.</source>
            <translation>El retrato sobre su imagen (Z y C); para el movimiento en el plano, para alinear la postura.</translation>
        </message>
        <message>
            <source>The portrait {first} is not in the gallery any more; {name} is used.</source>
            <translation>El retrato {first} ya no está en la galería; se usa {name}.</translation>
        </message>
        <message>
            <source>The portrait's own, blurred</source>
            <translation>El del retrato, desenfocado</translation>
        </message>
        <message>
            <source>The portrait's own, still</source>
            <translation>El del retrato, quieto</translation>
        </message>
        <message>
            <source>The portrait, moved and nothing else</source>
            <translation>El retrato, movido y nada más</translation>
        </message>
        <message>
            <source>The preset {name} has these strengths now.</source>
            <translation>El preajuste {name} tiene ahora estas intensidades.</translation>
        </message>
        <message>
            <source>The preset {name} was deleted.</source>
            <translation>Se eliminó el preajuste {name}.</translation>
        </message>
        <message>
            <source>The presets could not be read ({error}). There are none for now; {kept}.</source>
            <translation>No se pudieron leer los preajustes ({error}). De momento no hay ninguno; {kept}.</translation>
        </message>
        <message>
            <source>The preview is paused; the output goes on.</source>
            <translation>La vista previa está en pausa; la salida continúa.</translation>
        </message>
        <message>
            <source>The recording goes on without sound, which failed ({error}). For sound, begin another one.</source>
            <translation>La grabación continúa sin sonido, que falló ({error}). Para tener sonido, empiece otra.</translation>
        </message>
        <message>
            <source>The recording had not begun: there is no file.</source>
            <translation>La grabación no había empezado: no hay archivo.</translation>
        </message>
        <message>
            <source>The recording has no sound, since its encoder cannot be opened ({error}). Install the app again.</source>
            <translation>La grabación no tiene sonido, pues no se puede abrir su codificador ({error}). Instale de nuevo la aplicación.</translation>
        </message>
        <message>
            <source>The recording of your motion ended: {why}.</source>
            <translation>La grabación de su movimiento terminó: {why}.</translation>
        </message>
        <message>
            <source>The same, from a dialog for files or colours too</source>
            <translation>Lo mismo, también desde un diálogo de archivos o colores</translation>
        </message>
        <message>
            <source>The settings could not be read ({error}). Defaults are in use; {kept}.</source>
            <translation>No se pudieron leer los ajustes ({error}). Se usan los predeterminados; {kept}.</translation>
        </message>
        <message>
            <source>The slate cannot show {characters}. Leave that out, or choose a picture that shows it for the slate.</source>
            <translation>La pantalla de espera no puede mostrar {characters}. Quítelo o elija una imagen de espera que lo muestre.</translation>
        </message>
        <message>
            <source>The slate key is not heard: {why}.</source>
            <translation>No se escucha la tecla de espera: {why}.</translation>
        </message>
        <message>
            <source>The system does not let this app use the camera. Allow it in System Settings, Privacy.</source>
            <translation>El sistema no deja que esta aplicación use la cámara. Permítalo en Ajustes del Sistema, Privacidad.</translation>
        </message>
        <message>
            <source>The system is asked for the key…</source>
            <translation>Se está pidiendo la tecla al sistema…</translation>
        </message>
        <message>
            <source>The system's usual one</source>
            <translation>El habitual del sistema</translation>
        </message>
        <message>
            <source>The virtual camera {called} does not answer ({cause}).</source>
            <translation>La cámara virtual {called} no responde ({cause}).</translation>
        </message>
        <message>
            <source>The virtual camera {called} is in use by another program.</source>
            <translation>La cámara virtual {called} la usa otro programa.</translation>
        </message>
        <message>
            <source>The virtual camera {called} is in use by {by}.</source>
            <translation>La cámara virtual {called} la usa {by}.</translation>
        </message>
        <message>
            <source>The virtual camera {called} is ready, but Chrome and Teams will not list it (exclusive_caps=0).</source>
            <translation>La cámara virtual {called} está lista, pero Chrome y Teams no la ofrecerán (exclusive_caps=0).</translation>
        </message>
        <message>
            <source>The virtual camera {called} is ready.</source>
            <translation>La cámara virtual {called} está lista.</translation>
        </message>
        <message>
            <source>The virtual camera {called} is there, but you may not use it.</source>
            <translation>La cámara virtual {called} está ahí, pero no puede usarla.</translation>
        </message>
        <message>
            <source>The virtual camera {called} takes our pictures.</source>
            <translation>La cámara virtual {called} acepta nuestras imágenes.</translation>
        </message>
        <message>
            <source>The virtual camera {name} is ready.</source>
            <translation>La cámara virtual {name} está lista.</translation>
        </message>
        <message>
            <source>The {camera} is in use: OBS itself or another program writes to it.</source>
            <translation>{camera} está en uso: el propio OBS u otro programa escribe en ella.</translation>
        </message>
        <message>
            <source>The {camera} is installed, but you have not approved it yet.</source>
            <translation>{camera} está instalada, pero aún no la ha autorizado.</translation>
        </message>
        <message>
            <source>The {camera} is ready.</source>
            <translation>{camera} está lista.</translation>
        </message>
        <message>
            <source>Theme</source>
            <translation>Tema</translation>
        </message>
        <message>
            <source>There is no face in this square of {name}: move the square over a face that looks towards the camera, or choose the automatic crop.</source>
            <translation>No hay ninguna cara en este cuadrado de {name}: muévalo sobre una cara que mire a la cámara, o elija el recorte automático.</translation>
        </message>
        <message>
            <source>There is no folder {folder} to open yet: it is made with the first recording or snapshot.</source>
            <translation>La carpeta {folder} todavía no existe: se crea con la primera grabación o instantánea.</translation>
        </message>
        <message>
            <source>There is no picture in the clipboard: copy one first.</source>
            <translation>No hay ninguna imagen en el portapapeles: copie una primero.</translation>
        </message>
        <message>
            <source>There is no picture in the folder {folder}: choose one that has some.</source>
            <translation>No hay ninguna imagen en la carpeta {folder}: elija una que las tenga.</translation>
        </message>
        <message>
            <source>There is no picture yet to save.</source>
            <translation>Aún no hay ninguna imagen que guardar.</translation>
        </message>
        <message>
            <source>There is no virtual camera at {device}: got {what}, expected a device of v4l2loopback.</source>
            <translation>No hay cámara virtual en {device}: hay {what}, se esperaba un dispositivo de v4l2loopback.</translation>
        </message>
        <message>
            <source>There is no virtual camera for {system}: expected Linux, Windows or macOS.</source>
            <translation>No hay cámara virtual para {system}: se esperaba Linux, Windows o macOS.</translation>
        </message>
        <message>
            <source>There is no virtual camera in a safe start: start the app again.</source>
            <translation>No hay cámara virtual en un inicio seguro: reinicie la aplicación.</translation>
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera} or UnityCapture's.</source>
            <translation>No hay cámara virtual {device}: se esperaba {camera} o la de UnityCapture.</translation>
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera}.</source>
            <translation>No hay cámara virtual {device}: se esperaba {camera}.</translation>
        </message>
        <message>
            <source>There is no virtual camera: OBS Studio brings one.</source>
            <translation>No hay cámara virtual: OBS Studio trae una.</translation>
        </message>
        <message>
            <source>There is no virtual camera: OBS is installed, its camera not yet ({camera}).</source>
            <translation>No hay cámara virtual: OBS está instalado, su cámara aún no ({camera}).</translation>
        </message>
        <message>
            <source>There is no virtual camera: got macOS {release}, expected 13 or newer.</source>
            <translation>No hay cámara virtual: esto es macOS {release}, se esperaba 13 o posterior.</translation>
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is installed, but not loaded.</source>
            <translation>No hay cámara virtual: v4l2loopback está instalado, pero no cargado.</translation>
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is not installed for the kernel {kernel}.</source>
            <translation>No hay cámara virtual: v4l2loopback no está instalado para el núcleo {kernel}.</translation>
        </message>
        <message>
            <source>There is nothing to record at the moment: wait until the preview goes on.</source>
            <translation>No hay nada que grabar por el momento: espere a que continúe la vista previa.</translation>
        </message>
        <message>
            <source>This is a safe start: the processor computes, there is no virtual camera, and all settings are the defaults. Nothing of them is kept; your own are back with the next start.</source>
            <translation>Este es un inicio seguro: calcula el procesador, no hay cámara virtual y todos los ajustes son los predeterminados. Nada de ello se guarda; los suyos vuelven en el próximo inicio.</translation>
        </message>
        <message>
            <source>This is only the address of a picture: copy the picture itself, or save it and add the file.</source>
            <translation>Esto es solo la dirección de una imagen: copie la imagen misma, o guárdela y añada el archivo.</translation>
        </message>
        <message>
            <source>This list</source>
            <translation>Esta lista</translation>
        </message>
        <message>
            <source>This portrait's own</source>
            <translation>Las de este retrato</translation>
        </message>
        <message>
            <source>Tick first that you may use this picture</source>
            <translation>Marque primero que puede usar esta imagen</translation>
        </message>
        <message>
            <source>Tilt</source>
            <translation>Ladear</translation>
        </message>
        <message>
            <source>Trying again in {seconds} s.</source>
            <translation>Nuevo intento en {seconds} s.</translation>
        </message>
        <message>
            <source>Turn</source>
            <translation>Girar</translation>
        </message>
        <message>
            <source>Turn to the left</source>
            <translation>Girar a la izquierda</translation>
        </message>
        <message>
            <source>Turn to the left by a quarter (Page Up)</source>
            <translation>Girar un cuarto a la izquierda (Re Pág)</translation>
        </message>
        <message>
            <source>Turn to the right</source>
            <translation>Girar a la derecha</translation>
        </message>
        <message>
            <source>Turn to the right by a quarter (Page Down)</source>
            <translation>Girar un cuarto a la derecha (Av Pág)</translation>
        </message>
        <message>
            <source>Turns the picture a little (comma and full stop).</source>
            <translation>Gira un poco la imagen (coma y punto).</translation>
        </message>
        <message>
            <source>Undo</source>
            <translation>Deshacer</translation>
        </message>
        <message>
            <source>Up and down</source>
            <translation>Arriba y abajo</translation>
        </message>
        <message>
            <source>Update macOS</source>
            <translation>Actualice macOS</translation>
        </message>
        <message>
            <source>Use a video file…</source>
            <translation>Archivo de vídeo…</translation>
        </message>
        <message>
            <source>Use a video, in a loop, instead of a camera</source>
            <translation>Usar un vídeo, en bucle, en lugar de una cámara</translation>
        </message>
        <message>
            <source>Use it all the same</source>
            <translation>Usarlo de todos modos</translation>
        </message>
        <message>
            <source>Use this camera</source>
            <translation>Usar esta cámara</translation>
        </message>
        <message>
            <source>Use this portrait</source>
            <translation>Usar este retrato</translation>
        </message>
        <message>
            <source>Videos ({endings});;All files (*)</source>
            <translation>Vídeos ({endings});;Todos los archivos (*)</translation>
        </message>
        <message>
            <source>View</source>
            <translation>Vista</translation>
        </message>
        <message>
            <source>Views</source>
            <translation>Vistas</translation>
        </message>
        <message>
            <source>Virtual camera</source>
            <translation>Cámara virtual</translation>
        </message>
        <message>
            <source>Warped</source>
            <translation>Deformado</translation>
        </message>
        <message>
            <source>What is missing before going live</source>
            <translation>Lo que falta para ir en vivo</translation>
        </message>
        <message>
            <source>What is missing, and what to do</source>
            <translation>Lo que falta y qué hacer</translation>
        </message>
        <message>
            <source>What is seen around the portrait, or behind the person.</source>
            <translation>Lo que se ve alrededor del retrato, o detrás de la persona.</translation>
        </message>
        <message>
            <source>What other programs have to show; keep it secret</source>
            <translation>Lo que otros programas tienen que mostrar; guárdelo en secreto</translation>
        </message>
        <message>
            <source>What the avatar does while your face is lost, until the slate comes; it moves with measured keypoints.</source>
            <translation>Lo que hace el avatar mientras se pierde su cara, hasta que llega la pantalla de espera; se mueve con puntos clave medidos.</translation>
        </message>
        <message>
            <source>What the decoder makes of it, with the memory's help</source>
            <translation>Lo que hace el decodificador con ello, con ayuda de la memoria</translation>
        </message>
        <message>
            <source>What the marked place takes from the memory; click to mark another one</source>
            <translation>Lo que el lugar marcado toma de la memoria; haga clic para marcar otro</translation>
        </message>
        <message>
            <source>What the network does inside</source>
            <translation>Lo que hace la red por dentro</translation>
        </message>
        <message>
            <source>What the run has learned since cannot be used: {error}. What it had learned before goes on.</source>
            <translation>Lo que el entrenamiento ha aprendido desde entonces no se puede usar: {error}. Sigue lo que había aprendido antes.</translation>
        </message>
        <message>
            <source>What the slate says instead of “Camera is off” or “Be right back”; Enter keeps it.</source>
            <translation>Lo que dice la pantalla de espera en lugar de «Camera is off» o «Be right back»; Intro lo conserva.</translation>
        </message>
        <message>
            <source>What to do</source>
            <translation>Qué hacer</translation>
        </message>
        <message>
            <source>What will be animated</source>
            <translation>Lo que se animará</translation>
        </message>
        <message>
            <source>Where other programs ask; Enter keeps it. 0: any port that is free.</source>
            <translation>Adónde se dirigen otros programas; Intro lo conserva. 0: cualquier puerto libre.</translation>
        </message>
        <message>
            <source>Where the eyes look.</source>
            <translation>Hacia dónde miran los ojos.</translation>
        </message>
        <message>
            <source>Where the model runs. Automatic: where it was measured to be fastest.</source>
            <translation>Dónde se ejecuta el modelo. Automático: donde se midió más rápido.</translation>
        </message>
        <message>
            <source>Where the portrait stands; it can be dragged in the preview.</source>
            <translation>Dónde está el retrato; se puede arrastrar en la vista previa.</translation>
        </message>
        <message>
            <source>Where what is shown came from: the direction as a hue, 20 px and more in full colour</source>
            <translation>De dónde vino lo que se muestra: la dirección como tono, color pleno desde 20 px</translation>
        </message>
        <message>
            <source>Which keypoint's motion moves each place, by colour; dark: the background's</source>
            <translation>Qué punto clave mueve cada lugar, por color; oscuro: el fondo</translation>
        </message>
        <message>
            <source>While away</source>
            <translation>Ausente</translation>
        </message>
        <message>
            <source>Whose sound recordings have, and calls that take the microphone for calls.</source>
            <translation>De quién es el sonido de las grabaciones, y de las llamadas que toman el micrófono para llamadas.</translation>
        </message>
        <message>
            <source>Window</source>
            <translation>Ventana</translation>
        </message>
        <message>
            <source>Windows gives the key to this app</source>
            <translation>Windows da la tecla a esta aplicación</translation>
        </message>
        <message>
            <source>Without</source>
            <translation>Sin imagen</translation>
        </message>
        <message>
            <source>Yellow: the moved portrait is trusted; blue: the picture is generated</source>
            <translation>Amarillo: se confía en el retrato movido; azul: la imagen es generada</translation>
        </message>
        <message>
            <source>You are not asked to calibrate again before the same camera. What your face measures is kept on this computer for that, for your account alone; switched off, it is deleted.</source>
            <translation>No se le pide calibrar otra vez ante la misma cámara. Para ello, lo que mide su cara se guarda en este ordenador, solo para su cuenta; si se apaga, se elimina.</translation>
        </message>
        <message>
            <source>You, as only you see yourself</source>
            <translation>Usted, como solo usted se ve</translation>
        </message>
        <message>
            <source>You, with the crop that moves the avatar. Nobody else sees this. Click for another size.</source>
            <translation>Usted, con el recorte que mueve al avatar. Nadie más ve esto. Haga clic para otro tamaño.</translation>
        </message>
        <message>
            <source>Your own picture in the preview's corner (B). Hide it before you share this window.</source>
            <translation>Su propia imagen en la esquina de la vista previa (B). Ocúltela antes de compartir esta ventana.</translation>
        </message>
        <message>
            <source>Zoom</source>
            <translation>Zoom</translation>
        </message>
        <message>
            <source>Zoom in on you</source>
            <translation>Acercar</translation>
        </message>
        <message>
            <source>Zoom out</source>
            <translation>Alejar</translation>
        </message>
        <message>
            <source>a camera's number (0), a device (/dev/video0), a network camera's address (http://, rtsp://), a video or motion file, or a folder of pictures</source>
            <translation>el número de una cámara (0), un dispositivo (/dev/video0), la dirección de una cámara de red (http://, rtsp://), un archivo de vídeo o de movimiento, o una carpeta de imágenes</translation>
        </message>
        <message>
            <source>a frame of the model takes {best}</source>
            <translation>una imagen del modelo tarda {best}</translation>
        </message>
        <message>
            <source>a frame of the model takes {best} ({others})</source>
            <translation>una imagen del modelo tarda {best} ({others})</translation>
        </message>
        <message>
            <source>a further GPU</source>
            <translation>otra GPU</translation>
        </message>
        <message>
            <source>a list of whole numbers</source>
            <translation>una lista de números enteros</translation>
        </message>
        <message>
            <source>a motion file has no pictures in which this model could detect keypoints: choose a model and a portrait whose keypoints can be measured, as the starter and any portrait with a face</source>
            <translation>un archivo de movimiento no tiene imágenes en las que este modelo pueda detectar puntos clave: elija un modelo y un retrato cuyos puntos clave se puedan medir, como starter y cualquier retrato con cara</translation>
        </message>
        <message>
            <source>a motion file has no pictures, so that it moves the avatar in space only: choose that motion</source>
            <translation>un archivo de movimiento no tiene imágenes, así que mueve al avatar solo en el espacio: elija ese movimiento</translation>
        </message>
        <message>
            <source>a motion file takes no more than {hours} hours</source>
            <translation>un archivo de movimiento admite como máximo {hours} horas</translation>
        </message>
        <message>
            <source>a number of thousands of digits</source>
            <translation>un número de miles de cifras</translation>
        </message>
        <message>
            <source>a picture becomes a portrait, a video the camera</source>
            <translation>una imagen pasa a ser un retrato; un vídeo, la cámara</translation>
        </message>
        <message>
            <source>a portrait needs a name: got an empty one for {name}, so it keeps its own</source>
            <translation>un retrato necesita un nombre: el de {name} venía vacío, así que conserva el suyo</translation>
        </message>
        <message>
            <source>a single number</source>
            <translation>un solo número</translation>
        </message>
        <message>
            <source>a table of values</source>
            <translation>una tabla de valores</translation>
        </message>
        <message>
            <source>about {rate_hz:.2g} frames per second are too slow for a call: close what else is running and press Measure under First steps, or use a computer with a GPU</source>
            <translation>unas {rate_hz:.2g} imágenes por segundo son muy pocas para una llamada: cierre lo demás que se ejecuta y pulse «Medir» en «Primeros pasos», o use un ordenador con GPU</translation>
        </message>
        <message>
            <source>age</source>
            <translation>edad</translation>
        </message>
        <message>
            <source>an AMD GPU</source>
            <translation>una GPU de AMD</translation>
        </message>
        <message>
            <source>an NVIDIA GPU</source>
            <translation>una GPU de NVIDIA</translation>
        </message>
        <message>
            <source>an empty file</source>
            <translation>un archivo vacío</translation>
        </message>
        <message>
            <source>an even width at {size_px} px (compensated)</source>
            <translation>un ancho par en {size_px} px (compensado)</translation>
        </message>
        <message>
            <source>an odd number</source>
            <translation>un número impar</translation>
        </message>
        <message>
            <source>another camera is used now</source>
            <translation>ahora se usa otra cámara</translation>
        </message>
        <message>
            <source>another program has it, maybe another mcnet-avatar</source>
            <translation>otro programa lo tiene, quizá otro mcnet-avatar</translation>
        </message>
        <message>
            <source>as asked</source>
            <translation>como se pidió</translation>
        </message>
        <message>
            <source>as measured</source>
            <translation>según lo medido</translation>
        </message>
        <message>
            <source>as usual</source>
            <translation>como siempre</translation>
        </message>
        <message>
            <source>asked for {asked_hz:g} frames/s, gives {given_hz:g} (more light often helps)</source>
            <translation>se pidieron {asked_hz:g} imágenes/s, da {given_hz:g} (más luz suele ayudar)</translation>
        </message>
        <message>
            <source>asked for {asked}, gives {given}</source>
            <translation>se pidió {asked}, da {given}</translation>
        </message>
        <message>
            <source>at least two widths</source>
            <translation>al menos dos anchos</translation>
        </message>
        <message>
            <source>at least {least}</source>
            <translation>al menos {least}</translation>
        </message>
        <message>
            <source>at most {most}</source>
            <translation>como máximo {most}</translation>
        </message>
        <message>
            <source>avatar</source>
            <translation>avatar</translation>
        </message>
        <message>
            <source>backend: OpenVINO failed: {failure}</source>
            <translation>motor: OpenVINO falló: {failure}</translation>
        </message>
        <message>
            <source>backend: got 'cudagraph', but {device} was chosen, expected an NVIDIA GPU</source>
            <translation>motor: se pidió «cudagraph», pero se eligió {device}; se esperaba una GPU de NVIDIA</translation>
        </message>
        <message>
            <source>backend: got 'cudagraph', but {reason}; use backend auto or torch</source>
            <translation>motor: se pidió «cudagraph», pero {reason}; use el motor auto o torch</translation>
        </message>
        <message>
            <source>backend: got 'openvino', but {lack}; use backend torch (or auto), or mend that</source>
            <translation>motor: se pidió «openvino», pero {lack}; use el motor torch (o auto), o arréglelo</translation>
        </message>
        <message>
            <source>backend: got 'torch', but {device} was chosen, where OpenVINO alone computes: use backend auto, or another device</source>
            <translation>motor: se pidió «torch», pero se eligió {device}, donde solo calcula OpenVINO: use el motor auto, u otro dispositivo</translation>
        </message>
        <message>
            <source>backend: got {wanted}, expected one of {allowed}</source>
            <translation>motor: se pidió {wanted}, se esperaba uno de {allowed}</translation>
        </message>
        <message>
            <source>backend: torch has to compute, but {lack}; or install OpenVINO, and use a CPU</source>
            <translation>motor: torch tiene que calcular, pero {lack}; o instale OpenVINO y use un procesador</translation>
        </message>
        <message>
            <source>background: {error}; expected own, blur, green, #rrggbb, alpha, or the file of a picture or a video</source>
            <translation>fondo: {error}; se esperaba own, blur, green, #rrggbb, alpha, o el archivo de una imagen o un vídeo</translation>
        </message>
        <message>
            <source>because {lack}</source>
            <translation>por lo siguiente: {lack}</translation>
        </message>
        <message>
            <source>blue</source>
            <translation>azul</translation>
        </message>
        <message>
            <source>calibration</source>
            <translation>calibración</translation>
        </message>
        <message>
            <source>camera</source>
            <translation>cámara</translation>
        </message>
        <message>
            <source>camera to model</source>
            <translation>cámara a modelo</translation>
        </message>
        <message>
            <source>camera {device}</source>
            <translation>cámara {device}</translation>
        </message>
        <message>
            <source>camera {name}</source>
            <translation>cámara {name}</translation>
        </message>
        <message>
            <source>camera: got an address that begins with {scheme}://, expected http://, https:// or rtsp://</source>
            <translation>cámara: la dirección empieza por {scheme}://, se esperaba http://, https:// o rtsp://</translation>
        </message>
        <message>
            <source>camera: got an address that cannot be read, expected one such as {scheme}://192.168.1.20:8080/video; in a user name or password write / as %2F, @ as %40, # as %23 and ? as %3F</source>
            <translation>cámara: la dirección no se puede leer, se esperaba una como {scheme}://192.168.1.20:8080/video; en un usuario o contraseña escriba / como %2F, @ como %40, # como %23 y ? como %3F</translation>
        </message>
        <message>
            <source>camera: got nothing, expected {expected}</source>
            <translation>cámara: no se indicó nada, se esperaba {expected}</translation>
        </message>
        <message>
            <source>camera: got {asked} for size and rate, expected {least_px} to 8192 pixels per side and 1 to 240 frames/s, as @1280x720@30</source>
            <translation>cámara: se indicó {asked} como tamaño y frecuencia, se esperaban de {least_px} a 8192 píxeles por lado y de 1 a 240 imágenes/s, como @1280x720@30</translation>
        </message>
        <message>
            <source>camera: got {shown}, and there is no such file; expected {expected}</source>
            <translation>cámara: se indicó {shown}, y no existe tal archivo; se esperaba {expected}</translation>
        </message>
        <message>
            <source>cannot keep the list of portraits in {folder}: {error}; check the disk</source>
            <translation>no se puede guardar la lista de retratos en {folder}: {error}; revise el disco</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {count} frames without a face, expected one at least</source>
            <translation>no se puede guardar el movimiento en {path}: {count} imágenes sin cara, se esperaba al menos una con ella</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {count} frames, expected at most {most}</source>
            <translation>no se puede guardar el movimiento en {path}: {count} imágenes, se esperaban como máximo {most}</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {hours:.1f} hours, expected at most {most}</source>
            <translation>no se puede guardar el movimiento en {path}: {hours:.1f} horas, se admiten como máximo {most}</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: {why}</source>
            <translation>no se puede guardar el movimiento en {path}: {why}</translation>
        </message>
        <message>
            <source>cannot keep the token of control from outside in {place}: {why}</source>
            <translation>no se puede guardar el token del control externo en {place}: {why}</translation>
        </message>
        <message>
            <source>cannot keep the {what} in {path}: {error}; check the folder's permissions</source>
            <translation>no se puede guardar en {path} ({what}): {error}; revise los permisos de la carpeta</translation>
        </message>
        <message>
            <source>cannot keep this machine's signer in {path}: {why}</source>
            <translation>no se puede guardar el firmante de este ordenador en {path}: {why}</translation>
        </message>
        <message>
            <source>cannot make a picture for a {suffix} file: got {type} of shape {shape}, expected uint8 of shape {shapes}, with one pixel at least</source>
            <translation>no se puede crear una imagen para un archivo {suffix}: se recibió {type} de forma {shape}, se esperaba uint8 de forma {shapes}, con al menos un píxel</translation>
        </message>
        <message>
            <source>cannot make a picture for a {suffix} file: got {width} x {height}, expected at most {most} pixels per side; make it smaller</source>
            <translation>no se puede crear una imagen para un archivo {suffix}: se recibió {width} x {height}, se esperaban como máximo {most} píxeles por lado; redúzcala</translation>
        </message>
        <message>
            <source>cannot make the folder for portraits {folder}: {error}; check the disk</source>
            <translation>no se puede crear la carpeta de retratos {folder}: {error}; revise el disco</translation>
        </message>
        <message>
            <source>cannot make the folder {folder}: {cause}</source>
            <translation>no se puede crear la carpeta {folder}: {cause}</translation>
        </message>
        <message>
            <source>cannot open {path} at {fps_hz} frames/s: expected more than 0</source>
            <translation>no se puede abrir {path} a {fps_hz} imágenes/s: se esperaba más de 0</translation>
        </message>
        <message>
            <source>cannot put the model on {device}: {cause}; use cpu</source>
            <translation>no se puede poner el modelo en {device}: {cause}; use cpu</translation>
        </message>
        <message>
            <source>cannot put {name} back: {error}; add the picture again</source>
            <translation>no se puede devolver {name}: {error}; añada la imagen de nuevo</translation>
        </message>
        <message>
            <source>cannot read the bundled network {path}: {cause}; reinstall the package</source>
            <translation>no se puede leer la red incluida {path}: {cause}; reinstale el paquete</translation>
        </message>
        <message>
            <source>cannot read the list of portraits {path}: {error}; check its permissions</source>
            <translation>no se puede leer la lista de retratos {path}: {error}; revise sus permisos</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a camera's raw data, expected {readable}; export it as JPEG</source>
            <translation>no se puede leer la imagen {path}: son datos en bruto de una cámara, se esperaba {readable}; expórtela como JPEG</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a device, expected a file</source>
            <translation>no se puede leer la imagen {path}: es un dispositivo, se esperaba un archivo</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a folder, expected a file; name one of its files</source>
            <translation>no se puede leer la imagen {path}: es una carpeta, se esperaba un archivo; indique uno de los suyos</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got {what}, expected {readable}</source>
            <translation>no se puede leer la imagen {path}: hay {what}, se esperaba {readable}</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: it is damaged, cut short or of a kind that cannot be decoded ({said}); open it in a viewer and save it as JPEG, or take another</source>
            <translation>no se puede leer la imagen {path}: está dañada, cortada o es de un tipo que no se puede decodificar ({said}); ábrala en un visor y guárdela como JPEG, o tome otra</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: {error}</source>
            <translation>no se puede leer la imagen {path}: {error}</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: {said}; check its permissions</source>
            <translation>no se puede leer la imagen {path}: {said}; revise sus permisos</translation>
        </message>
        <message>
            <source>cannot read the presets in {path}: they are of format {version}, this app knows formats up to {known}; use a newer app, or move the file away</source>
            <translation>no se pueden leer los preajustes en {path}: tienen el formato {version}, esta aplicación conoce formatos hasta {known}; use una aplicación más nueva, o mueva el archivo</translation>
        </message>
        <message>
            <source>cannot read the presets in {path}: {error}; check its permissions, or move it away</source>
            <translation>no se pueden leer los preajustes en {path}: {error}; revise sus permisos, o mueva el archivo</translation>
        </message>
        <message>
            <source>cannot read the settings in {path}: {error}; check its permissions, or move it away</source>
            <translation>no se pueden leer los ajustes en {path}: {error}; revise sus permisos, o mueva el archivo</translation>
        </message>
        <message>
            <source>cannot read the video {path}: got a folder, a device or a pipe, and a video is read more than once; save it as a file first</source>
            <translation>no se puede leer el vídeo {path}: es una carpeta, un dispositivo o una tubería, y un vídeo se lee más de una vez; guárdelo antes como archivo</translation>
        </message>
        <message>
            <source>cannot read the video {path}: got an empty file; export or download it again</source>
            <translation>no se puede leer el vídeo {path}: el archivo está vacío; expórtelo o descárguelo de nuevo</translation>
        </message>
        <message>
            <source>cannot read the video {path}: {said}; expected a video such as MP4, MOV or WebM</source>
            <translation>no se puede leer el vídeo {path}: {said}; se esperaba un vídeo como MP4, MOV o WebM</translation>
        </message>
        <message>
            <source>cannot read this machine's signer {path}: {why}</source>
            <translation>no se puede leer el firmante de este ordenador {path}: {why}</translation>
        </message>
        <message>
            <source>cannot read {path}: got a device or a pipe, expected a file</source>
            <translation>no se puede leer {path}: es un dispositivo o una tubería, se esperaba un archivo</translation>
        </message>
        <message>
            <source>cannot read {path}: {why}; check its name</source>
            <translation>no se puede leer {path}: {why}; revise su nombre</translation>
        </message>
        <message>
            <source>cannot record to {path}: got suffix {suffix}, expected .mp4 or .webm</source>
            <translation>no se puede grabar en {path}: la extensión es {suffix}, se esperaba .mp4 o .webm</translation>
        </message>
        <message>
            <source>cannot record to {path}: the encoder {codec} cannot be opened for {width_px} x {height_px} ({cause}); choose another size, or install the app again</source>
            <translation>no se puede grabar en {path}: el codificador {codec} no se abre para {width_px} x {height_px} ({cause}); elija otro tamaño, o instale de nuevo la aplicación</translation>
        </message>
        <message>
            <source>cannot record to {path}: there is no folder {parent}; make it first</source>
            <translation>no se puede grabar en {path}: no existe la carpeta {parent}; créela primero</translation>
        </message>
        <message>
            <source>cannot record to {path}: {cause}</source>
            <translation>no se puede grabar en {path}: {cause}</translation>
        </message>
        <message>
            <source>cannot remove the token {place}: {why}</source>
            <translation>no se puede quitar el token {place}: {why}</translation>
        </message>
        <message>
            <source>cannot remove {path}: {error}; check the folder's permissions</source>
            <translation>no se puede quitar {path}: {error}; revise los permisos de la carpeta</translation>
        </message>
        <message>
            <source>cannot say in {place} where the app listens: {why}</source>
            <translation>no se puede anotar en {place} dónde escucha la aplicación: {why}</translation>
        </message>
        <message>
            <source>cannot use the file {path}: {cause}; check its name and its folder</source>
            <translation>no se puede usar el archivo {path}: {cause}; revise su nombre y su carpeta</translation>
        </message>
        <message>
            <source>cannot use the file: {cause}; check its name and its folder</source>
            <translation>no se puede usar el archivo: {cause}; revise su nombre y su carpeta</translation>
        </message>
        <message>
            <source>cannot use the folder {folder}: {cause}</source>
            <translation>no se puede usar la carpeta {folder}: {cause}</translation>
        </message>
        <message>
            <source>cannot use the pictures of {path}: got {name}, {width} x {height}, which cannot be converted ({error}); export it again as H.264 in MP4</source>
            <translation>no se pueden usar las imágenes de {path}: {name}, {width} x {height} no se puede convertir ({error}); expórtelo de nuevo como H.264 en MP4</translation>
        </message>
        <message>
            <source>cannot use {path} as a video: got an animated WebP, whose pictures cannot be decoded; convert it to MP4 or GIF</source>
            <translation>no se puede usar {path} como vídeo: es un WebP animado, cuyas imágenes no se pueden descodificar; conviértalo a MP4 o GIF</translation>
        </message>
        <message>
            <source>cannot use {path} as a video: got {what}, expected a video with pictures, such as H.264 in MP4</source>
            <translation>no se puede usar {path} como vídeo: hay {what}, se esperaba un vídeo con imágenes, como H.264 en MP4</translation>
        </message>
        <message>
            <source>cannot write a picture to {path}: got suffix {suffix}, expected {suffixes}</source>
            <translation>no se puede escribir una imagen en {path}: la extensión es {suffix}, se esperaba {suffixes}</translation>
        </message>
        <message>
            <source>cannot write the picture {path}: it is a folder, expected a file name</source>
            <translation>no se puede escribir la imagen {path}: es una carpeta, se esperaba un nombre de archivo</translation>
        </message>
        <message>
            <source>cannot write the picture {path}: {cause}</source>
            <translation>no se puede escribir la imagen {path}: {cause}</translation>
        </message>
        <message>
            <source>choose a disk that takes larger files, or make it shorter</source>
            <translation>elija un disco que admita archivos más grandes, o hágalo más corto</translation>
        </message>
        <message>
            <source>choose another place</source>
            <translation>elija otro lugar</translation>
        </message>
        <message>
            <source>chroma green</source>
            <translation>verde croma</translation>
        </message>
        <message>
            <source>close your mouth</source>
            <translation>cierre la boca</translation>
        </message>
        <message>
            <source>compose</source>
            <translation>componer</translation>
        </message>
        <message>
            <source>config key {key}: got {got}, expected {expected}</source>
            <translation>clave de configuración {key}: se recibió {got}, se esperaba {expected}</translation>
        </message>
        <message>
            <source>config key {prefix}{missing} is missing</source>
            <translation>falta la clave de configuración {prefix}{missing}</translation>
        </message>
        <message>
            <source>control from outside cannot listen on port {port}: {why}; choose another port, or 0 for any that is free</source>
            <translation>el control externo no puede escuchar en el puerto {port}: {why}; elija otro puerto, o 0 para cualquiera libre</translation>
        </message>
        <message>
            <source>control from outside cannot start: {why}</source>
            <translation>el control externo no puede empezar: {why}</translation>
        </message>
        <message>
            <source>control from outside: got port {port}, expected 0 to 65535</source>
            <translation>control externo: el puerto es {port}, se esperaba de 0 a 65535</translation>
        </message>
        <message>
            <source>crop</source>
            <translation>recorte</translation>
        </message>
        <message>
            <source>cut out</source>
            <translation>recortar</translation>
        </message>
        <message>
            <source>cutting the person out; the scene stays until then…</source>
            <translation>recortando a la persona; hasta entonces la escena sigue igual…</translation>
        </message>
        <message>
            <source>delay your microphone by {delay_ms} ms</source>
            <translation>retrase su micrófono {delay_ms} ms</translation>
        </message>
        <message>
            <source>detect</source>
            <translation>detectar</translation>
        </message>
        <message>
            <source>device: got {name}, but {lack}; use --device cpu (or auto), or mend that</source>
            <translation>dispositivo: se pidió {name}, pero {lack}; use --device cpu (o auto), o arréglelo</translation>
        </message>
        <message>
            <source>device: got {name}, expected auto, cpu, cuda, cuda:N, gpu, gpu:N or mps</source>
            <translation>dispositivo: se pidió {name}, se esperaba auto, cpu, cuda, cuda:N, gpu, gpu:N o mps</translation>
        </message>
        <message>
            <source>done</source>
            <translation>hecho</translation>
        </message>
        <message>
            <source>dropped</source>
            <translation>perdidas</translation>
        </message>
        <message>
            <source>dropped {percent:.0f} %</source>
            <translation>{percent:.0f} % perdidas</translation>
        </message>
        <message>
            <source>encode</source>
            <translation>codificar</translation>
        </message>
        <message>
            <source>everything is ready</source>
            <translation>todo está listo</translation>
        </message>
        <message>
            <source>face</source>
            <translation>cara</translation>
        </message>
        <message>
            <source>face lost: returning to rest</source>
            <translation>cara perdida: vuelve al reposo</translation>
        </message>
        <message>
            <source>face lost: the last picture stays</source>
            <translation>cara perdida: queda la última imagen</translation>
        </message>
        <message>
            <source>fine detail</source>
            <translation>detalle fino</translation>
        </message>
        <message>
            <source>getting ready</source>
            <translation>preparando</translation>
        </message>
        <message>
            <source>got 32 bits per channel, expected 8 or 16; convert it to JPEG or PNG</source>
            <translation>tiene 32 bits por canal, se esperaban 8 o 16; conviértala a JPEG o PNG</translation>
        </message>
        <message>
            <source>got Lab colours with a profile that cannot be used; convert it to JPEG or PNG</source>
            <translation>tiene colores Lab con un perfil que no se puede usar; conviértala a JPEG o PNG</translation>
        </message>
        <message>
            <source>got PipeWire {version}, expected {oldest} or newer; update it</source>
            <translation>esto es PipeWire {version}, se esperaba {oldest} o posterior; actualícelo</translation>
        </message>
        <message>
            <source>got a network address, and only a file of this machine can be used; download it first</source>
            <translation>es una dirección de red, y solo se puede usar un archivo de este ordenador; descárguelo primero</translation>
        </message>
        <message>
            <source>got figures of format {evaluation}, expected 'mcnet-evaluation/2'</source>
            <translation>las cifras tienen el formato {evaluation}, se esperaba «mcnet-evaluation/2»</translation>
        </message>
        <message>
            <source>got only a private key to sign with: name the file of its certificates as well</source>
            <translation>para firmar solo se indicó una clave privada: indique también el archivo de sus certificados</translation>
        </message>
        <message>
            <source>got only certificates to sign with: name the file of their private key as well</source>
            <translation>para firmar solo se indicaron certificados: indique también el archivo de su clave privada</translation>
        </message>
        <message>
            <source>got pictures of shape {shape}, expected (height, width, 3) of at least {least_px} pixels per side</source>
            <translation>las imágenes tienen la forma {shape}, se esperaba (alto, ancho, 3) con al menos {least_px} píxeles por lado</translation>
        </message>
        <message>
            <source>got {got}, expected a list</source>
            <translation>{got}, se esperaba una lista</translation>
        </message>
        <message>
            <source>ink</source>
            <translation>tinta</translation>
        </message>
        <message>
            <source>install the app again</source>
            <translation>instale de nuevo la aplicación</translation>
        </message>
        <message>
            <source>int8 with OpenVINO, else {precision}</source>
            <translation>int8 con OpenVINO, si no {precision}</translation>
        </message>
        <message>
            <source>it cannot be signed: {why}</source>
            <translation>no se puede firmar: {why}</translation>
        </message>
        <message>
            <source>it has {frames} frames, which is as many as a motion file takes</source>
            <translation>tiene {frames} imágenes, que es lo máximo de un archivo de movimiento</translation>
        </message>
        <message>
            <source>it is the fastest on x86-64 CPUs</source>
            <translation>es lo más rápido en procesadores x86-64</translation>
        </message>
        <message>
            <source>it is what computes on Apple GPUs</source>
            <translation>es lo que calcula en las GPU de Apple</translation>
        </message>
        <message>
            <source>it is what computes on Intel GPUs</source>
            <translation>es lo que calcula en las GPU de Intel</translation>
        </message>
        <message>
            <source>it opens, but gives no frames</source>
            <translation>se abre, pero no da imágenes</translation>
        </message>
        <message>
            <source>it was changed, moved or removed while it was being signed</source>
            <translation>se cambió, movió o quitó mientras se firmaba</translation>
        </message>
        <message>
            <source>it was ended</source>
            <translation>se detuvo</translation>
        </message>
        <message>
            <source>it was removed meanwhile</source>
            <translation>se eliminó entretanto</translation>
        </message>
        <message>
            <source>its first {value:g} s are kept</source>
            <translation>se conservan sus primeros {value:g} s</translation>
        </message>
        <message>
            <source>its header is no JSON</source>
            <translation>su cabecera no es JSON</translation>
        </message>
        <message>
            <source>its linear jacobians are no {rows} rows of {columns} numbers, as {count} keypoints on the face mesh have them</source>
            <translation>sus jacobianas lineales no son {rows} filas de {columns} números, como las tienen {count} puntos clave en la malla facial</translation>
        </message>
        <message>
            <source>its linear jacobians have {value}, expected finite numbers</source>
            <translation>sus jacobianas lineales contienen {value}; se esperaban números finitos</translation>
        </message>
        <message>
            <source>its process ended with {status}: out of memory, or a library crashed</source>
            <translation>su proceso terminó con {status}: sin memoria, o una biblioteca falló</translation>
        </message>
        <message>
            <source>its statement would go to {path}, where another file is: move or rename that one</source>
            <translation>su declaración iría a {path}, donde hay otro archivo: muévalo o cámbiele el nombre</translation>
        </message>
        <message>
            <source>key: got {key}, expected a letter, a digit, F1 to F24, Pause, ScrollLock, Print, Ins, Del, Home, End, PgUp, PgDown or Space, with Ctrl, Alt, Shift or Meta, such as Ctrl+Alt+0</source>
            <translation>tecla: {key}; se esperaba una letra, una cifra, F1 a F24, Pause, ScrollLock, Print, Ins, Del, Home, End, PgUp, PgDown o Space, con Ctrl, Alt, Shift o Meta, como Ctrl+Alt+0</translation>
        </message>
        <message>
            <source>key: {key} alone would be taken from whatever you write: choose it with Ctrl, Alt or Meta, or a key such as Pause or F9</source>
            <translation>tecla: {key} sola faltaría en todo lo que escriba: elíjala con Ctrl, Alt o Meta, o una tecla como Pause o F9</translation>
        </message>
        <message>
            <source>key: {key} is another program's already, the desktop's maybe: choose another one</source>
            <translation>tecla: {key} ya es de otro programa, quizá del escritorio: elija otra</translation>
        </message>
        <message>
            <source>key: {key} is another program's already: choose another one</source>
            <translation>tecla: {key} ya es de otro programa: elija otra</translation>
        </message>
        <message>
            <source>key: {key} is not on this keyboard: choose another one, such as Ctrl+Alt+0</source>
            <translation>tecla: {key} no está en este teclado: elija otra, como Ctrl+Alt+0</translation>
        </message>
        <message>
            <source>lids</source>
            <comment>measure</comment>
            <translation>párpados</translation>
        </message>
        <message>
            <source>light grey</source>
            <translation>gris claro</translation>
        </message>
        <message>
            <source>live</source>
            <translation>en vivo</translation>
        </message>
        <message>
            <source>loading the model…</source>
            <translation>cargando el modelo…</translation>
        </message>
        <message>
            <source>look as the portrait does</source>
            <translation>póngase como el retrato</translation>
        </message>
        <message>
            <source>look straight into the camera</source>
            <translation>mire de frente a la cámara</translation>
        </message>
        <message>
            <source>looking at the model…</source>
            <translation>examinando el modelo…</translation>
        </message>
        <message>
            <source>macOS gives a key to one app only with the right to watch all keys: have the Shortcuts app run mcnet-avatar ctl slate by a key</source>
            <translation>macOS da una tecla a una aplicación solo con el derecho de observar todas: haga que la aplicación Atajos ejecute mcnet-avatar ctl slate con una tecla</translation>
        </message>
        <message>
            <source>make room on the disk</source>
            <translation>haga sitio en el disco</translation>
        </message>
        <message>
            <source>make room: what you may use of the disk is used up</source>
            <translation>haga sitio: se agotó lo que puede usar del disco</translation>
        </message>
        <message>
            <source>matte</source>
            <translation>máscara</translation>
        </message>
        <message>
            <source>measuring</source>
            <translation>midiendo</translation>
        </message>
        <message>
            <source>measuring…</source>
            <translation>midiendo…</translation>
        </message>
        <message>
            <source>model</source>
            <translation>modelo</translation>
        </message>
        <message>
            <source>model to sinks</source>
            <translation>modelo a salidas</translation>
        </message>
        <message>
            <source>model {model} gave NaN for the keypoints of this frame: use precision fp32 or another model; the frame is not shown</source>
            <translation>el modelo {model} dio NaN en los puntos clave de esta imagen: use la precisión fp32 u otro modelo; la imagen no se muestra</translation>
        </message>
        <message>
            <source>model {model} gave NaN for the {what}: use precision fp32 or another model</source>
            <translation>el modelo {model} dio NaN ({what}): use la precisión fp32 u otro modelo</translation>
        </message>
        <message>
            <source>model {model} gave NaN or infinite values for this frame, expected colours in [0, 1]: use precision fp32 or another model; the frame is not shown</source>
            <translation>el modelo {model} dio NaN o valores infinitos en esta imagen, se esperaban colores en [0, 1]: use la precisión fp32 u otro modelo; la imagen no se muestra</translation>
        </message>
        <message>
            <source>model {name}</source>
            <translation>el modelo {name}</translation>
        </message>
        <message>
            <source>mouth</source>
            <comment>measure</comment>
            <translation>boca</translation>
        </message>
        <message>
            <source>mps is for Apple's GPUs, and this is {system}</source>
            <translation>mps es para las GPU de Apple, y esto es {system}</translation>
        </message>
        <message>
            <source>ms</source>
            <translation>ms</translation>
        </message>
        <message>
            <source>name of the PipeWire camera: got {name}, expected 1 to {longest} printable characters</source>
            <translation>nombre de la cámara PipeWire: {name}, se esperaban de 1 a {longest} caracteres imprimibles</translation>
        </message>
        <message>
            <source>needs a hand</source>
            <translation>necesita ayuda</translation>
        </message>
        <message>
            <source>network camera {address}</source>
            <translation>cámara de red {address}</translation>
        </message>
        <message>
            <source>neutral face, any direction</source>
            <translation>cara neutra, cualquier dirección</translation>
        </message>
        <message>
            <source>no camera at {path}: got nothing there; {advice}</source>
            <translation>no hay cámara en {path}: allí no hay nada; {advice}</translation>
        </message>
        <message>
            <source>no camera picture</source>
            <translation>sin imagen de cámara</translation>
        </message>
        <message>
            <source>no camera was found: plug one in, or use a video file</source>
            <translation>no se encontró ninguna cámara: conecte una, o use un archivo de vídeo</translation>
        </message>
        <message>
            <source>no camera yet: choose one under Camera</source>
            <translation>aún no hay cámara: elija una en «Cámara»</translation>
        </message>
        <message>
            <source>no configuration is named {name}; the named ones are {named}</source>
            <translation>ninguna configuración se llama {name}; las que hay son {named}</translation>
        </message>
        <message>
            <source>no face in {name}: got none that looks towards the camera; take another picture, larger or from the front, or turn this one upright</source>
            <translation>no hay ninguna cara en {name}: ninguna mira a la cámara; tome otra imagen, más grande o de frente, o enderece esta</translation>
        </message>
        <message>
            <source>no face is shown</source>
            <translation>no se muestra ninguna cara</translation>
        </message>
        <message>
            <source>no face was found in it</source>
            <translation>no se encontró ninguna cara en ella</translation>
        </message>
        <message>
            <source>no face was found in this portrait</source>
            <translation>no se encontró ninguna cara en este retrato</translation>
        </message>
        <message>
            <source>no face was seen while the motion was recorded: there is no file {path}</source>
            <translation>no se vio ninguna cara mientras se grababa el movimiento: no hay archivo {path}</translation>
        </message>
        <message>
            <source>no face was seen, so that nothing was calibrated: look into the camera, and calibrate again</source>
            <translation>no se vio ninguna cara, así que no se calibró nada: mire a la cámara y vuelva a calibrar</translation>
        </message>
        <message>
            <source>no face: the avatar rests</source>
            <translation>sin cara: el avatar descansa</translation>
        </message>
        <message>
            <source>no file is chosen; choose a picture or a video</source>
            <translation>no se eligió ningún archivo; elija una imagen o un vídeo</translation>
        </message>
        <message>
            <source>no frame of {path} can be decoded: it is damaged or cut short; export it again</source>
            <translation>no se puede decodificar ninguna imagen de {path}: está dañado o cortado; expórtelo de nuevo</translation>
        </message>
        <message>
            <source>no frame of {path} can be decoded; choose another video</source>
            <translation>no se puede decodificar ninguna imagen de {path}; elija otro vídeo</translation>
        </message>
        <message>
            <source>no model {name_or_path}: got neither a file, a folder nor a bundled name, expected a .safetensors or .pth.tar file or a model's folder (check the path) or one of: {bundled}</source>
            <translation>no hay modelo {name_or_path}: no es ni un archivo, ni una carpeta, ni un nombre incluido; se esperaba un archivo .safetensors o .pth.tar o la carpeta de un modelo (revise la ruta), o uno de: {bundled}</translation>
        </message>
        <message>
            <source>no motion file {path}: there is no such file</source>
            <translation>no hay archivo de movimiento {path}: no existe tal archivo</translation>
        </message>
        <message>
            <source>no permission for {path} ({name}): run `sudo usermod -aG video $USER`, then log out and in again</source>
            <translation>sin permiso para {path} ({name}): ejecute `sudo usermod -aG video $USER`, y después cierre la sesión y vuelva a abrirla</translation>
        </message>
        <message>
            <source>no person is told apart from the background</source>
            <translation>no se distingue a ninguna persona del fondo</translation>
        </message>
        <message>
            <source>no picture at {path}: check the path</source>
            <translation>no hay imagen en {path}: revise la ruta</translation>
        </message>
        <message>
            <source>no picture track</source>
            <translation>sin pista de imagen</translation>
        </message>
        <message>
            <source>no portrait can be used: add another one</source>
            <translation>no se puede usar ningún retrato: añada otro</translation>
        </message>
        <message>
            <source>no portrait yet: choose one, or add yours</source>
            <translation>aún no hay retrato: elija uno, o añada el suyo</translation>
        </message>
        <message>
            <source>no portrait {text}: got neither a file nor a known name ({names}); check the path or the name</source>
            <translation>no hay retrato {text}: no es ni un archivo ni un nombre conocido ({names}); revise la ruta o el nombre</translation>
        </message>
        <message>
            <source>no process could be started for it ({error})</source>
            <translation>no se pudo iniciar un proceso para ello ({error})</translation>
        </message>
        <message>
            <source>no video at {path}: check the path</source>
            <translation>no hay vídeo en {path}: revise la ruta</translation>
        </message>
        <message>
            <source>none</source>
            <translation>ninguna</translation>
        </message>
        <message>
            <source>none yet</source>
            <translation>ninguno todavía</translation>
        </message>
        <message>
            <source>not calibrated yet: look into the camera, or press Calibrate</source>
            <translation>aún sin calibrar: mire a la cámara, o pulse «Calibrar»</translation>
        </message>
        <message>
            <source>not needed in absolute motion</source>
            <translation>no hace falta en movimiento absoluto</translation>
        </message>
        <message>
            <source>not stated</source>
            <translation>no consta</translation>
        </message>
        <message>
            <source>nothing</source>
            <translation>nada</translation>
        </message>
        <message>
            <source>nothing here runs model {model}: {reasons}; is another program in the way?</source>
            <translation>nada aquí ejecuta el modelo {model}: {reasons}; ¿estorba otro programa?</translation>
        </message>
        <message>
            <source>nothing is there</source>
            <translation>no hay nada</translation>
        </message>
        <message>
            <source>nothing of it could be kept</source>
            <translation>no se pudo conservar nada</translation>
        </message>
        <message>
            <source>nothing yet</source>
            <translation>nada todavía</translation>
        </message>
        <message>
            <source>of unknown version</source>
            <translation>de versión desconocida</translation>
        </message>
        <message>
            <source>on Debian or Ubuntu: apt-get install libpulse0</source>
            <translation>en Debian o Ubuntu: apt-get install libpulse0</translation>
        </message>
        <message>
            <source>only sound</source>
            <translation>solo sonido</translation>
        </message>
        <message>
            <source>only you see this</source>
            <translation>solo usted ve esto</translation>
        </message>
        <message>
            <source>open your eyes</source>
            <translation>abra los ojos</translation>
        </message>
        <message>
            <source>open your mouth as in the portrait</source>
            <translation>abra la boca como en el retrato</translation>
        </message>
        <message>
            <source>openvino cannot be used: {failure}</source>
            <translation>openvino no se puede usar: {failure}</translation>
        </message>
        <message>
            <source>output</source>
            <translation>salida</translation>
        </message>
        <message>
            <source>part of the face is cut off</source>
            <translation>parte de la cara está cortada</translation>
        </message>
        <message>
            <source>pictures in a codec that cannot be decoded</source>
            <translation>imágenes en un códec que no se puede decodificar</translation>
        </message>
        <message>
            <source>pine</source>
            <translation>pino</translation>
        </message>
        <message>
            <source>places: got {given} of shape {got}, expected {pictures} of shape {shape}, finite numbers</source>
            <translation>places: se recibieron {given} de forma {got}, se esperaban {pictures} de forma {shape}, números finitos</translation>
        </message>
        <message>
            <source>plug it in, or choose another: {there}</source>
            <translation>conéctela, o elija otra: {there}</translation>
        </message>
        <message>
            <source>plug one in; no camera is there at all</source>
            <translation>conecte una; no hay ninguna cámara</translation>
        </message>
        <message>
            <source>portrait</source>
            <translation>retrato</translation>
        </message>
        <message>
            <source>portrait angle_deg: got {angle_deg}, expected a number</source>
            <translation>retrato angle_deg: {angle_deg}, se esperaba un número</translation>
        </message>
        <message>
            <source>portrait box: got {box}, expected three numbers, the last of them above 0</source>
            <translation>retrato box: {box}, se esperaban tres números, el último de ellos mayor que 0</translation>
        </message>
        <message>
            <source>precision: got 'int8', but {lack}</source>
            <translation>precisión: se pidió «int8», pero {lack}</translation>
        </message>
        <message>
            <source>precision: got bf16 on {device}, expected fp32 or fp16 there</source>
            <translation>precisión: se pidió bf16 en {device}, allí se esperaba fp32 o fp16</translation>
        </message>
        <message>
            <source>precision: got bf16 on {device}, expected fp32, fp16 or int8 there</source>
            <translation>precisión: se recibió bf16 en {device}, allí se esperaba fp32, fp16 o int8</translation>
        </message>
        <message>
            <source>precision: got fp16 on the CPU, expected fp32, bf16 or int8 there (fp16 is for GPUs)</source>
            <translation>precisión: se recibió fp16 en la CPU, allí se esperaba fp32, bf16 o int8 (fp16 es para GPU)</translation>
        </message>
        <message>
            <source>precision: got {precision}, expected one of {allowed}</source>
            <translation>precisión: se pidió {precision}, se esperaba una de {allowed}</translation>
        </message>
        <message>
            <source>preset: got {name} for a name, expected 1 to {most} characters</source>
            <translation>preajuste: {name} como nombre, se esperaban de 1 a {most} caracteres</translation>
        </message>
        <message>
            <source>preset: got {name}, expected one of your own: {own}</source>
            <translation>preajuste: {name}, se esperaba uno de los suyos: {own}</translation>
        </message>
        <message>
            <source>preset: got {name}, expected one of {names}</source>
            <translation>preajuste: {name}, se esperaba uno de {names}</translation>
        </message>
        <message>
            <source>preset: there are {count} already, expected no more: delete one first</source>
            <translation>preajuste: ya hay {count}, no se prevén más: elimine uno primero</translation>
        </message>
        <message>
            <source>preset: {name} is there already: choose another name, or delete it first</source>
            <translation>preajuste: {name} ya existe: elija otro nombre, o elimínelo primero</translation>
        </message>
        <message>
            <source>preset: {name} stays as it is: choose another name</source>
            <translation>preajuste: {name} se queda como está: elija otro nombre</translation>
        </message>
        <message>
            <source>presets</source>
            <translation>preajustes</translation>
        </message>
        <message>
            <source>process {name}</source>
            <translation>proceso {name}</translation>
        </message>
        <message>
            <source>reading the portrait…</source>
            <translation>leyendo el retrato…</translation>
        </message>
        <message>
            <source>recorded frames are the fastest on GPUs</source>
            <translation>las imágenes grabadas son lo más rápido en GPU</translation>
        </message>
        <message>
            <source>recording {path}: got a picture of {got}, expected {shape}</source>
            <translation>grabación {path}: la imagen es {got}, se esperaba {shape}</translation>
        </message>
        <message>
            <source>render</source>
            <translation>generar</translation>
        </message>
        <message>
            <source>retouch</source>
            <translation>retocar</translation>
        </message>
        <message>
            <source>row {number}: got {got}, expected a portrait with its key</source>
            <translation>fila {number}: {got}, se esperaba un retrato con su clave (key)</translation>
        </message>
        <message>
            <source>row {number}: there is no picture {got}</source>
            <translation>fila {number}: no hay ninguna imagen {got}</translation>
        </message>
        <message>
            <source>row {number}: {error}</source>
            <translation>fila {number}: {error}</translation>
        </message>
        <message>
            <source>runs on</source>
            <translation>corre en</translation>
        </message>
        <message>
            <source>see that its app is in front, the phone awake, and both in the same network</source>
            <translation>compruebe que su aplicación esté en primer plano, el teléfono despierto y ambos en la misma red</translation>
        </message>
        <message>
            <source>see whether the disk is slow</source>
            <translation>compruebe si el disco es lento</translation>
        </message>
        <message>
            <source>send</source>
            <translation>enviar</translation>
        </message>
        <message>
            <source>setting</source>
            <translation>ajuste</translation>
        </message>
        <message>
            <source>setting background_colour: got {colour}, expected #rrggbb</source>
            <translation>ajuste background_colour: {colour}, se esperaba #rrggbb</translation>
        </message>
        <message>
            <source>setting inspector_views: got {views}, expected {least_views} to {most_views} different ones</source>
            <translation>ajuste inspector_views: {views}, se esperaban de {least_views} a {most_views} distintas</translation>
        </message>
        <message>
            <source>setting slate_text: got {got} characters, expected at most {longest_slate_text}</source>
            <translation>ajuste slate_text: {got} caracteres, se esperaban como máximo {longest_slate_text}</translation>
        </message>
        <message>
            <source>setting slate_text: the slate cannot show {characters}; leave that out, or have a picture that shows it as slate_image</source>
            <translation>ajuste slate_text: la pantalla de espera no puede mostrar {characters}; quítelo o indique en slate_image una imagen que lo muestre</translation>
        </message>
        <message>
            <source>setting {name}: got {value}, expected an even number</source>
            <translation>ajuste {name}: {value}, se esperaba un número par</translation>
        </message>
        <message>
            <source>setting {name}: got {value}, expected {low} to {high}</source>
            <translation>ajuste {name}: {value}, se esperaba de {low} a {high}</translation>
        </message>
        <message>
            <source>settings</source>
            <translation>ajustes</translation>
        </message>
        <message>
            <source>several people are in it; the largest face is used</source>
            <translation>hay varias personas; se usa la cara más grande</translation>
        </message>
        <message>
            <source>show your face to the camera</source>
            <translation>muestre su cara a la cámara</translation>
        </message>
        <message>
            <source>signing needs room for a second copy: got {free_mb:.0f} MB, expected {needed_mb:.0f} MB; make room on the disk</source>
            <translation>firmar necesita sitio para una segunda copia: hay {free_mb:.0f} MB libres, se esperaban {needed_mb:.0f} MB; haga sitio en el disco</translation>
        </message>
        <message>
            <source>skin, teeth and shut lids cannot be drawn for this portrait: {error}</source>
            <translation>no se pueden dibujar la piel, los dientes ni los párpados cerrados de este retrato: {error}</translation>
        </message>
        <message>
            <source>slate grey</source>
            <translation>gris pizarra</translation>
        </message>
        <message>
            <source>slate until the camera is back</source>
            <translation>espera hasta que vuelva la cámara</translation>
        </message>
        <message>
            <source>slate until your face is back</source>
            <translation>espera hasta que vuelva su cara</translation>
        </message>
        <message>
            <source>some of {sizes_px}, in rising order</source>
            <translation>algunos de {sizes_px}, en orden ascendente</translation>
        </message>
        <message>
            <source>something else or a damaged file</source>
            <translation>otra cosa o un archivo dañado</translation>
        </message>
        <message>
            <source>starting…</source>
            <translation>iniciando…</translation>
        </message>
        <message>
            <source>surroundings</source>
            <translation>alrededores</translation>
        </message>
        <message>
            <source>the Apple GPU</source>
            <translation>la GPU de Apple</translation>
        </message>
        <message>
            <source>the GPU is not used: {failure}</source>
            <translation>la GPU no se usa: {failure}</translation>
        </message>
        <message>
            <source>the GPU that torch found</source>
            <translation>la GPU que encontró torch</translation>
        </message>
        <message>
            <source>the PipeWire camera cannot be made: {error}</source>
            <translation>no se puede crear la cámara PipeWire: {error}</translation>
        </message>
        <message>
            <source>the PipeWire camera cannot be opened: no daemon listens at {socket} ({error}); start it with `systemctl --user start pipewire wireplumber`, or see `mcnet-avatar --doctor`</source>
            <translation>no se puede abrir la cámara PipeWire: ningún servicio escucha en {socket} ({error}); inícielo con `systemctl --user start pipewire wireplumber`, o vea `mcnet-avatar --doctor`</translation>
        </message>
        <message>
            <source>the PipeWire camera is not open; open it first</source>
            <translation>la cámara PipeWire no está abierta; ábrala primero</translation>
        </message>
        <message>
            <source>the PipeWire camera is open already ({detail}); close it first</source>
            <translation>la cámara PipeWire ya está abierta ({detail}); ciérrela primero</translation>
        </message>
        <message>
            <source>the X server does not answer for a key: {failure}</source>
            <translation>el servidor X no responde a la petición de la tecla: {failure}</translation>
        </message>
        <message>
            <source>the X server gives the key to this app</source>
            <translation>el servidor X da la tecla a esta aplicación</translation>
        </message>
        <message>
            <source>the X server has ended: {failure}</source>
            <translation>el servidor X ha terminado: {failure}</translation>
        </message>
        <message>
            <source>the authors' released weights are not bundled: download their checkpoint and give its path (.pth.tar)</source>
            <translation>los pesos publicados por los autores no se incluyen: descargue su checkpoint e indique su ruta (.pth.tar)</translation>
        </message>
        <message>
            <source>the background is to be a picture, but none is chosen: choose a file, or another background</source>
            <translation>el fondo debe ser una imagen, pero no se eligió ninguna: elija un archivo, u otro fondo</translation>
        </message>
        <message>
            <source>the background picture</source>
            <translation>la imagen de fondo</translation>
        </message>
        <message>
            <source>the background video cannot be used: {error}</source>
            <translation>no se puede usar el vídeo de fondo: {error}</translation>
        </message>
        <message>
            <source>the bundle has no torch (an installation by pip has)</source>
            <translation>el paquete autónomo no incluye torch (una instalación con pip sí)</translation>
        </message>
        <message>
            <source>the calibration is under way</source>
            <translation>la calibración está en curso</translation>
        </message>
        <message>
            <source>the call sees the slate</source>
            <translation>la llamada ve la pantalla de espera</translation>
        </message>
        <message>
            <source>the camera cannot be used: choose another one</source>
            <translation>la cámara no se puede usar: elija otra</translation>
        </message>
        <message>
            <source>the camera gives no frames: plug it in again, or choose another one</source>
            <translation>la cámara no da imágenes: conéctela de nuevo, o elija otra</translation>
        </message>
        <message>
            <source>the camera is being opened</source>
            <translation>se está abriendo la cámara</translation>
        </message>
        <message>
            <source>the camera's frames have another size now</source>
            <translation>las imágenes de la cámara tienen ahora otro tamaño</translation>
        </message>
        <message>
            <source>the certificate in {path} is valid from {begin} to {end} and not now: get a new one</source>
            <translation>el certificado en {path} vale desde {begin} hasta {end} y no ahora: consiga uno nuevo</translation>
        </message>
        <message>
            <source>the desktop did not give the key: allow it in its settings for shortcuts</source>
            <translation>el escritorio no dio la tecla: permítala en sus ajustes de atajos</translation>
        </message>
        <message>
            <source>the desktop has taken the key back</source>
            <translation>el escritorio ha retirado la tecla</translation>
        </message>
        <message>
            <source>the desktop is asked for the key, and may ask you</source>
            <translation>se pide la tecla al escritorio, que quizá le pregunte</translation>
        </message>
        <message>
            <source>the desktop's portal does not answer</source>
            <translation>el portal del escritorio no responde</translation>
        </message>
        <message>
            <source>the desktop's portal has refused the key: bind mcnet-avatar ctl slate there</source>
            <translation>el portal del escritorio ha negado la tecla: asigne allí mcnet-avatar ctl slate</translation>
        </message>
        <message>
            <source>the engine knows those of NVIDIA, Intel and Apple</source>
            <translation>el motor conoce las de NVIDIA, Intel y Apple</translation>
        </message>
        <message>
            <source>the eyes are hardly open</source>
            <translation>los ojos apenas están abiertos</translation>
        </message>
        <message>
            <source>the face is close to the picture's border</source>
            <translation>la cara está cerca del borde de la imagen</translation>
        </message>
        <message>
            <source>the face is dark: take a picture in more light</source>
            <translation>la cara está oscura: tome una foto con más luz</translation>
        </message>
        <message>
            <source>the face is over-exposed: take a picture in less light</source>
            <translation>la cara está sobreexpuesta: tome una foto con menos luz</translation>
        </message>
        <message>
            <source>the face is small: use a larger picture</source>
            <translation>la cara es pequeña: use una imagen más grande</translation>
        </message>
        <message>
            <source>the figures lack {error}, or have something else in its place: expected what `mcnet-train evaluate --json` wrote</source>
            <translation>a las cifras les falta {error}, o hay otra cosa en su lugar: se esperaba lo que escribió `mcnet-train evaluate --json`</translation>
        </message>
        <message>
            <source>the fine detail of this portrait cannot be shown: {error}</source>
            <translation>no se puede mostrar el detalle fino de este retrato: {error}</translation>
        </message>
        <message>
            <source>the folder {path} holds no picture: expected files such as PNG, JPEG or HEIC</source>
            <translation>la carpeta {path} no contiene imágenes: se esperaban archivos como PNG, JPEG o HEIC</translation>
        </message>
        <message>
            <source>the head is tilted</source>
            <translation>la cabeza está ladeada</translation>
        </message>
        <message>
            <source>the head is turned to the side</source>
            <translation>la cabeza está girada de lado</translation>
        </message>
        <message>
            <source>the key was lost {n} times in a row ({error}): choose it again</source>
            <translation>la tecla se perdió {n} veces seguidas ({error}): elíjala de nuevo</translation>
        </message>
        <message>
            <source>the key was not given in the desktop's dialog: choose it again to be asked</source>
            <translation>no se dio la tecla en el diálogo del escritorio: elíjala de nuevo para que se le pregunte</translation>
        </message>
        <message>
            <source>the microphone fails: {error}</source>
            <translation>el micrófono falla: {error}</translation>
        </message>
        <message>
            <source>the microphone gives no sound: plug it in again, or choose another one</source>
            <translation>el micrófono no da sonido: conéctelo de nuevo, o elija otro</translation>
        </message>
        <message>
            <source>the microphone is not there: plug it in, or choose another one</source>
            <translation>el micrófono no está: conéctelo, o elija otro</translation>
        </message>
        <message>
            <source>the microphone {description} cannot be opened ({name}): close what else uses it, or choose another one</source>
            <translation>no se puede abrir el micrófono {description} ({name}): cierre lo que lo usa, o elija otro</translation>
        </message>
        <message>
            <source>the microphone {name} gives no sound any more: plug it in again, close what else uses it, or choose another one</source>
            <translation>el micrófono {name} ya no da sonido: conéctelo de nuevo, cierre lo que lo usa, o elija otro</translation>
        </message>
        <message>
            <source>the microphone {name} gives no sound: plug it in again, or choose another one</source>
            <translation>el micrófono {name} no da sonido: conéctelo de nuevo, o elija otro</translation>
        </message>
        <message>
            <source>the model</source>
            <translation>el modelo</translation>
        </message>
        <message>
            <source>the model cannot be loaded: {reason}</source>
            <translation>no se puede cargar el modelo: {reason}</translation>
        </message>
        <message>
            <source>the model gives no pictures: wait, or press Start again</source>
            <translation>el modelo no da imágenes: espere, o pulse «Reiniciar»</translation>
        </message>
        <message>
            <source>the model has given no picture for {seconds:g} s: wait, or start again</source>
            <translation>el modelo no ha dado ninguna imagen en {seconds:g} s: espere, o reinicie</translation>
        </message>
        <message>
            <source>the model is loading</source>
            <translation>se está cargando el modelo</translation>
        </message>
        <message>
            <source>the mouth is open: teeth and lips will stretch</source>
            <translation>la boca está abierta: dientes y labios se estirarán</translation>
        </message>
        <message>
            <source>the network {path} is not the bundled one: got SHA-256 {found}..., expected {expected}...; reinstall the package</source>
            <translation>la red {path} no es la incluida: su SHA-256 es {found}..., se esperaba {expected}...; reinstale el paquete</translation>
        </message>
        <message>
            <source>the old file could not be moved ({error})</source>
            <translation>no se pudo mover el archivo anterior ({error})</translation>
        </message>
        <message>
            <source>the old file is kept as {aside}</source>
            <translation>el archivo anterior se conserva como {aside}</translation>
        </message>
        <message>
            <source>the output has failed: {reason}</source>
            <translation>la salida ha fallado: {reason}</translation>
        </message>
        <message>
            <source>the package c2pa-python cannot be used ({error}); install the app again, or switch Content Credentials off</source>
            <translation>no se puede usar el paquete c2pa-python ({error}); instale de nuevo la aplicación, o apague las credenciales de contenido</translation>
        </message>
        <message>
            <source>the package cryptography cannot be used ({error}); install the app again</source>
            <translation>no se puede usar el paquete cryptography ({error}); instale de nuevo la aplicación</translation>
        </message>
        <message>
            <source>the package {module} is missing in the bundle (install the app again)</source>
            <translation>falta el paquete {module} en la versión autónoma (vuelva a instalar la aplicación)</translation>
        </message>
        <message>
            <source>the package {module} is not installed ({command})</source>
            <translation>el paquete {module} no está instalado ({command})</translation>
        </message>
        <message>
            <source>the person cannot be cut out of this portrait: {error}</source>
            <translation>no se puede recortar a la persona de este retrato: {error}</translation>
        </message>
        <message>
            <source>the picture is soft</source>
            <translation>la imagen está borrosa</translation>
        </message>
        <message>
            <source>the picture {path} is too large: got {width} x {height}, expected at most {millions} million pixels; make it smaller</source>
            <translation>la imagen {path} es demasiado grande: {width} x {height}, se esperaban como máximo {millions} millones de píxeles; redúzcala</translation>
        </message>
        <message>
            <source>the picture {path} is too small: got {width} x {height}, expected at least {least_px} pixels on each side; use a larger one</source>
            <translation>la imagen {path} es demasiado pequeña: {width} x {height}, se esperaban al menos {least_px} píxeles por lado; use una más grande</translation>
        </message>
        <message>
            <source>the pictures of {path} differ in size: got {own_width} x {own_height} in {name}, expected {width} x {height} as in {first}</source>
            <translation>las imágenes de {path} difieren en tamaño: {own_width} x {own_height} en {name}, se esperaba {width} x {height} como en {first}</translation>
        </message>
        <message>
            <source>the portrait is being prepared</source>
            <translation>se está preparando el retrato</translation>
        </message>
        <message>
            <source>the private key {key} is not that of the first certificate in {certificates}: give the pair that belongs together, the signer's certificate first</source>
            <translation>la clave privada {key} no es la del primer certificado de {certificates}: indique la pareja que va junta, primero el certificado del firmante</translation>
        </message>
        <message>
            <source>the private key {path} has a passphrase, and nobody is there to type it: expected one without</source>
            <translation>la clave privada {path} tiene contraseña, y no hay nadie para escribirla: se esperaba una sin ella</translation>
        </message>
        <message>
            <source>the private key {path} is of a kind that C2PA does not take: expected an elliptic curve (P-256, P-384 or P-521), Ed25519, or RSA of at least {bits} bits</source>
            <translation>la clave privada {path} es de un tipo que C2PA no admite: se esperaba una curva elíptica (P-256, P-384 o P-521), Ed25519, o RSA de al menos {bits} bits</translation>
        </message>
        <message>
            <source>the process that looks inside the network has ended, perhaps for want of memory; close the view and open it again</source>
            <translation>el proceso que mira dentro de la red ha terminado, quizá por falta de memoria; cierre la vista y ábrala de nuevo</translation>
        </message>
        <message>
            <source>the recording is not open; open it first</source>
            <translation>la grabación no está abierta; ábrala primero</translation>
        </message>
        <message>
            <source>the recording {detail} is going on already; stop it first</source>
            <translation>la grabación {detail} ya está en curso; deténgala primero</translation>
        </message>
        <message>
            <source>the recording {path} cannot go on: {cause}; {kept}</source>
            <translation>la grabación {path} no puede continuar: {cause}; {kept}</translation>
        </message>
        <message>
            <source>the recording {path} failed: {reason}; {kept}</source>
            <translation>la grabación {path} falló: {reason}; {kept}</translation>
        </message>
        <message>
            <source>the session's message bus does not answer: {error}</source>
            <translation>el bus de mensajes de la sesión no responde: {error}</translation>
        </message>
        <message>
            <source>the session's message bus has ended: {error}</source>
            <translation>el bus de mensajes de la sesión ha terminado: {error}</translation>
        </message>
        <message>
            <source>the settings ask for detected keypoints, and this needs measured ones</source>
            <translation>los ajustes piden puntos clave detectados, y esto los necesita medidos</translation>
        </message>
        <message>
            <source>the signed copy does not hold when it is read back ({problems}), so that it was not kept</source>
            <translation>la copia firmada no se sostiene al releerla ({problems}), así que no se conservó</translation>
        </message>
        <message>
            <source>the signed copy does not show the same pictures, so that it was not kept</source>
            <translation>la copia firmada no muestra las mismas imágenes, así que no se conservó</translation>
        </message>
        <message>
            <source>the signed copy says something else, so that it was not kept</source>
            <translation>la copia firmada dice otra cosa, así que no se conservó</translation>
        </message>
        <message>
            <source>the slate's picture</source>
            <translation>la imagen de la pantalla de espera</translation>
        </message>
        <message>
            <source>the system forbids the camera: allow it in System Settings, Privacy</source>
            <translation>el sistema prohíbe la cámara: permítala en Ajustes del Sistema, Privacidad</translation>
        </message>
        <message>
            <source>the system's privacy settings keep the microphone from this app: allow it there</source>
            <translation>los ajustes de privacidad del sistema niegan el micrófono a esta aplicación: permítalo allí</translation>
        </message>
        <message>
            <source>the system's sound cannot be used: what asks for it has crashed; start it again</source>
            <translation>no se puede usar el sonido del sistema: lo que lo consulta se ha cerrado con un fallo; reinícielo</translation>
        </message>
        <message>
            <source>the system's sound did not answer within {seconds:g} s: start it again</source>
            <translation>el sonido del sistema no respondió en {seconds:g} s: reinícielo</translation>
        </message>
        <message>
            <source>the video {path} is too large: got {width} x {height}, expected at most {millions} million pixels; make it smaller</source>
            <translation>el vídeo {path} es demasiado grande: {width} x {height}, se esperaban como máximo {millions} millones de píxeles; redúzcalo</translation>
        </message>
        <message>
            <source>the view into the network is the plain network's, which is torch's, and {lack}</source>
            <translation>la vista del interior es la de la red simple, que necesita torch, y {lack}</translation>
        </message>
        <message>
            <source>the view into the network was closed; open it again</source>
            <translation>la vista del interior se cerró; ábrala de nuevo</translation>
        </message>
        <message>
            <source>the virtual camera cannot be opened: see the advice below its switch</source>
            <translation>no se puede abrir la cámara virtual: vea el consejo bajo su interruptor</translation>
        </message>
        <message>
            <source>the virtual camera cannot be opened: {said}; close programs that may write to it, and try again</source>
            <translation>no se puede abrir la cámara virtual: {said}; cierre los programas que puedan escribir en ella e inténtelo de nuevo</translation>
        </message>
        <message>
            <source>the virtual camera cannot be used: pyvirtualcam is not there ({error}); install it with `pip install pyvirtualcam`</source>
            <translation>no se puede usar la cámara virtual: falta pyvirtualcam ({error}); instálelo con `pip install pyvirtualcam`</translation>
        </message>
        <message>
            <source>the virtual camera is being opened</source>
            <translation>se está abriendo la cámara virtual</translation>
        </message>
        <message>
            <source>the virtual camera is being opened again</source>
            <translation>se está abriendo de nuevo la cámara virtual</translation>
        </message>
        <message>
            <source>the virtual camera is not open; open it first</source>
            <translation>la cámara virtual no está abierta; ábrala primero</translation>
        </message>
        <message>
            <source>the virtual camera is off: switch it on for a call</source>
            <translation>la cámara virtual está apagada: enciéndala para una llamada</translation>
        </message>
        <message>
            <source>the virtual camera is open already ({detail}); close it first</source>
            <translation>la cámara virtual ya está abierta ({detail}); ciérrela primero</translation>
        </message>
        <message>
            <source>the virtual camera takes no pictures any more: switch it on again</source>
            <translation>la cámara virtual ya no acepta imágenes: enciéndala de nuevo</translation>
        </message>
        <message>
            <source>the virtual camera {detail} could not be closed: {error}</source>
            <translation>no se pudo cerrar la cámara virtual {detail}: {error}</translation>
        </message>
        <message>
            <source>the virtual camera {detail} takes no pictures any more: {error}; open it again</source>
            <translation>la cámara virtual {detail} ya no acepta imágenes: {error}; ábrala de nuevo</translation>
        </message>
        <message>
            <source>the {stage} has failed: {reason}</source>
            <translation>una parte de la aplicación ({stage}) ha fallado: {reason}</translation>
        </message>
        <message>
            <source>there is no GPU {index}: torch finds {device_count}</source>
            <translation>no existe la GPU {index}: torch encuentra {device_count}</translation>
        </message>
        <message>
            <source>there is no Intel GPU {index}: OpenVINO finds {n}</source>
            <translation>no existe la GPU de Intel {index}: OpenVINO encuentra {n}</translation>
        </message>
        <message>
            <source>there is no desktop to hear a key on</source>
            <translation>no hay escritorio en el que escuchar una tecla</translation>
        </message>
        <message>
            <source>there is no file {path}; check the path</source>
            <translation>no existe el archivo {path}; revise la ruta</translation>
        </message>
        <message>
            <source>there is no microphone: plug one in, or allow it in the system's settings for sound</source>
            <translation>no hay micrófono: conecte uno, o permítalo en los ajustes de sonido del sistema</translation>
        </message>
        <message>
            <source>this Wayland session has no message bus to ask its desktop by: bind mcnet-avatar ctl slate to a key in the desktop's own settings</source>
            <translation>esta sesión de Wayland no tiene bus de mensajes para preguntar a su escritorio: asigne una tecla a mcnet-avatar ctl slate en los ajustes del escritorio</translation>
        </message>
        <message>
            <source>this computer is being measured</source>
            <translation>se está midiendo este ordenador</translation>
        </message>
        <message>
            <source>this desktop's portal gives no keys to apps ({error}): bind mcnet-avatar ctl slate to a key in the desktop's own settings</source>
            <translation>el portal de este escritorio no da teclas a las aplicaciones ({error}): asigne una tecla a mcnet-avatar ctl slate en los ajustes del escritorio</translation>
        </message>
        <message>
            <source>this machine shows no GPU that a program may compute with (there is no /dev/dri/renderD*)</source>
            <translation>este ordenador no muestra ninguna GPU con la que un programa pueda calcular (no existe /dev/dri/renderD*)</translation>
        </message>
        <message>
            <source>this model's keypoints are not known points of a face</source>
            <translation>los puntos clave de este modelo no son puntos conocidos de una cara</translation>
        </message>
        <message>
            <source>this user has no home folder: set HOME to a folder where the program may keep its files</source>
            <translation>este usuario no tiene carpeta personal: asigne a HOME una carpeta donde el programa pueda guardar sus archivos</translation>
        </message>
        <message>
            <source>threads: got {threads}, expected at least 1, or None for all cores</source>
            <translation>hilos: se pidieron {threads}, se esperaba al menos 1, o None para todos los núcleos</translation>
        </message>
        <message>
            <source>to do</source>
            <translation>por hacer</translation>
        </message>
        <message>
            <source>torch is not installed</source>
            <translation>torch no está instalado</translation>
        </message>
        <message>
            <source>torch lacks something on the Apple GPU that the network needs ({error}): use device cpu, or a newer torch</source>
            <translation>a torch le falta en la GPU de Apple algo que la red necesita ({error}): use el dispositivo cpu, o un torch más nuevo</translation>
        </message>
        <message>
            <source>torch {version} (for CUDA {cuda}) finds no usable NVIDIA GPU or driver</source>
            <translation>torch {version} (para CUDA {cuda}) no encuentra ninguna GPU NVIDIA utilizable ni su controlador</translation>
        </message>
        <message>
            <source>torch {version} finds no Apple GPU that it can use</source>
            <translation>torch {version} no encuentra ninguna GPU de Apple que pueda usar</translation>
        </message>
        <message>
            <source>torch {version} has no NVIDIA driver to compute with</source>
            <translation>torch {version} no tiene controlador NVIDIA con el que calcular</translation>
        </message>
        <message>
            <source>torch {version} is a build without Apple's Metal</source>
            <translation>torch {version} es una compilación sin Metal de Apple</translation>
        </message>
        <message>
            <source>torch {version} is a build without CUDA</source>
            <translation>torch {version} es una compilación sin CUDA</translation>
        </message>
        <message>
            <source>trying {way}</source>
            <translation>probando {way}</translation>
        </message>
        <message>
            <source>turn your head as in the portrait</source>
            <translation>gire la cabeza como en el retrato</translation>
        </message>
        <message>
            <source>unknown config key {prefix}{unknown}; the known ones are {known}</source>
            <translation>clave de configuración desconocida {prefix}{unknown}; las conocidas son {known}</translation>
        </message>
        <message>
            <source>unknown key {key}</source>
            <translation>clave desconocida {key}</translation>
        </message>
        <message>
            <source>unknown {what} {key}</source>
            <translation>desconocido: {what} {key}</translation>
        </message>
        <message>
            <source>unknown {what} {prefix}{unknown}; the known ones are {kinds}</source>
            <translation>desconocido: {what} {prefix}{unknown}; se conocen {kinds}</translation>
        </message>
        <message>
            <source>unplug it and plug it in again, close other programs that use it</source>
            <translation>desconéctela y conéctela de nuevo, cierre otros programas que la usen</translation>
        </message>
        <message>
            <source>v4l2loopback is loaded, but has no device.</source>
            <translation>v4l2loopback está cargado, pero no tiene dispositivo.</translation>
        </message>
        <message>
            <source>version: got {version}, expected {known}</source>
            <translation>version: {version}, se esperaba {known}</translation>
        </message>
        <message>
            <source>virtual camera</source>
            <translation>cámara virtual</translation>
        </message>
        <message>
            <source>virtual camera {detail}: got a picture of {shape}, expected {expected}</source>
            <translation>cámara virtual {detail}: la imagen es {shape}, se esperaba {expected}</translation>
        </message>
        <message>
            <source>virtual camera: got backend {backend}, expected one of {backends}</source>
            <translation>cámara virtual: el motor es {backend}, se esperaba uno de {backends}</translation>
        </message>
        <message>
            <source>waiting for the weights of the model in use…</source>
            <translation>esperando los pesos del modelo en uso…</translation>
        </message>
        <message>
            <source>warped L1 of copying</source>
            <translation>L1 de lo deformado respecto a copiar</translation>
        </message>
        <message>
            <source>warped L1 of copying, of what it learns from</source>
            <translation>L1 de lo deformado respecto a copiar, en los datos de los que aprende</translation>
        </message>
        <message>
            <source>what is around this portrait cannot be shown: {error}</source>
            <translation>no se puede mostrar lo que rodea este retrato: {error}</translation>
        </message>
        <message>
            <source>what speaks to PipeWire has crashed</source>
            <translation>lo que habla con PipeWire se ha cerrado con un fallo</translation>
        </message>
        <message>
            <source>what {path} says of itself cannot be read: {why}</source>
            <translation>no se puede leer lo que {path} dice de sí: {why}</translation>
        </message>
        <message>
            <source>widths of at least {least}</source>
            <translation>anchos de al menos {least}</translation>
        </message>
        <message>
            <source>wood</source>
            <translation>madera</translation>
        </message>
        <message>
            <source>working…</source>
            <translation>trabajando…</translation>
        </message>
        <message>
            <source>{busy_ms:.0f} ms each</source>
            <translation>{busy_ms:.0f} ms cada una</translation>
        </message>
        <message>
            <source>{camera} gives a picture of one colour: open its shutter, or switch it on with its key</source>
            <translation>{camera} da una imagen de un solo color: abra su tapa, o actívela con su tecla</translation>
        </message>
        <message>
            <source>{camera} goes on.</source>
            <translation>{camera} continúa.</translation>
        </message>
        <message>
            <source>{changed} changed</source>
            <translation>{changed} cambiados</translation>
        </message>
        <message>
            <source>{counts} counts, one for each UpBlock</source>
            <translation>{counts} cantidades, una por cada UpBlock</translation>
        </message>
        <message>
            <source>{delay_ms:.0f} ms</source>
            <translation>{delay_ms:.0f} ms</translation>
        </message>
        <message>
            <source>{device} ({name}), {why}, in {precision}</source>
            <translation>{device} ({name}), {why}; en {precision}</translation>
        </message>
        <message>
            <source>{device} in {precision} with {backend}</source>
            <translation>{device} en {precision} con {backend}</translation>
        </message>
        <message>
            <source>{done} of {steps}</source>
            <translation>{done} de {steps}</translation>
        </message>
        <message>
            <source>{error}. Presets of this run are not kept</source>
            <translation>{error}. Los preajustes de esta sesión no se guardan</translation>
        </message>
        <message>
            <source>{error}; it is asked again in {pause_s:g} s</source>
            <translation>{error}; se volverá a pedir en {pause_s:g} s</translation>
        </message>
        <message>
            <source>{error}; until it can be had again, it is asked for from time to time</source>
            <translation>{error}; se volverá a pedir de vez en cuando hasta que sea posible</translation>
        </message>
        <message>
            <source>{file} was not finished within {seconds:g} s: leave its disk connected, and see later if it plays</source>
            <translation>{file} no se terminó en {seconds:g} s: deje su disco conectado y compruebe más tarde si se reproduce</translation>
        </message>
        <message>
            <source>{first} and {then}</source>
            <translation>{first} y {then}</translation>
        </message>
        <message>
            <source>{first} or {then}</source>
            <translation>{first} o {then}</translation>
        </message>
        <message>
            <source>{first}, {then}</source>
            <translation>{first}, {then}</translation>
        </message>
        <message>
            <source>{first}. {then}</source>
            <translation>{first}. {then}</translation>
        </message>
        <message>
            <source>{first}; {then}</source>
            <translation>{first}; {then}</translation>
        </message>
        <message>
            <source>{folder} holds no model: got neither {model_file} nor {latest_file}, expected a folder that `mcnet-train export` wrote, or that of a run that has saved what it learned</source>
            <translation>{folder} no contiene ningún modelo: no están ni {model_file} ni {latest_file}; se esperaba una carpeta que escribió `mcnet-train export`, o la de un entrenamiento que ha guardado lo aprendido</translation>
        </message>
        <message>
            <source>{found}, while the machine was busy with something else</source>
            <translation>{found}, mientras el ordenador estaba ocupado con otra cosa</translation>
        </message>
        <message>
            <source>{fps:.0f} fps</source>
            <translation>{fps:.0f} fps</translation>
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} frames</source>
            <translation>
                <numerusform>{fps:5.1f} fps   {n} imagen</numerusform>
                <numerusform>{fps:5.1f} fps   {n} imágenes</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} pictures</source>
            <translation>
                <numerusform>{fps:5.1f} fps   {n} imagen</numerusform>
                <numerusform>{fps:5.1f} fps   {n} imágenes</numerusform>
            </translation>
        </message>
        <message>
            <source>{frame_ms:.3g} ms on {way}</source>
            <translation>{frame_ms:.3g} ms en {way}</translation>
        </message>
        <message>
            <source>{kept}; {error}</source>
            <translation>{kept}; {error}</translation>
        </message>
        <message>
            <source>{key} shows the slate, whichever window has the focus.</source>
            <translation>{key} muestra la pantalla de espera, sea cual sea la ventana con el foco.</translation>
        </message>
        <message>
            <source>{key}: got {got}, expected no such key</source>
            <translation>{key}: {got}, no se esperaba tal clave</translation>
        </message>
        <message>
            <source>{key}: got {got}, expected {expected}</source>
            <translation>{key}: {got}, se esperaba {expected}</translation>
        </message>
        <message>
            <source>{lack}; in a clone, `make setup` installs every package</source>
            <translation>{lack}; en un clon, `make setup` instala todos los paquetes</translation>
        </message>
        <message>
            <source>{lack}; or switch Content Credentials off</source>
            <translation>{lack}; o apague las credenciales de contenido</translation>
        </message>
        <message>
            <source>{lack}; use device cpu, or another precision</source>
            <translation>{lack}; use el dispositivo cpu, u otra precisión</translation>
        </message>
        <message>
            <source>{levels} widths, as the encoder</source>
            <translation>{levels} anchos, como el codificador</translation>
        </message>
        <message>
            <source>{licences} and {more} more</source>
            <translation>{licences} y {more} más</translation>
        </message>
        <message>
            <source>{licences}; not stated for some</source>
            <translation>{licences}; para algunos no se indica</translation>
        </message>
        <message>
            <source>{measure} {share:.0%}</source>
            <translation>{measure} {share:.0%}</translation>
        </message>
        <message>
            <source>{measure} {value:.2f}</source>
            <translation>{measure} {value:.2f}</translation>
        </message>
        <message>
            <source>{model} animates the portrait now.</source>
            <translation>{model} anima ahora el retrato.</translation>
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} goes on.</source>
            <translation>{model} no se puede usar: {reason}. Sigue {other}.</translation>
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} is back.</source>
            <translation>{model} no se puede usar: {reason}. Vuelve {other}.</translation>
        </message>
        <message>
            <source>{names}; did you mean {nearest}?</source>
            <translation>{names}; ¿quería decir {nearest}?</translation>
        </message>
        <message>
            <source>{name} (key {key})</source>
            <translation>{name} (tecla {key})</translation>
        </message>
        <message>
            <source>{name} (process {pid})</source>
            <translation>{name} (proceso {pid})</translation>
        </message>
        <message>
            <source>{name} (sm_{major}{minor}) is older than what this torch was built for (sm_{known})</source>
            <translation>{name} (sm_{major}{minor}) es anterior a lo que admite este torch (sm_{known})</translation>
        </message>
        <message>
            <source>{name} came with the app and keeps its name: only your own portraits can be renamed</source>
            <translation>{name} vino con la aplicación y conserva su nombre: solo se puede cambiar el nombre de sus propios retratos</translation>
        </message>
        <message>
            <source>{name} came with the app and stays: only your own portraits can be removed</source>
            <translation>{name} vino con la aplicación y se queda: solo se pueden quitar sus propios retratos</translation>
        </message>
        <message>
            <source>{name} cannot be found: no host of that name is known; check the address, or use the number that the app shows</source>
            <translation>no se encuentra {name}: no se conoce ningún equipo con ese nombre; revise la dirección, o use el número que muestra la aplicación</translation>
        </message>
        <message>
            <source>{name} cannot be opened: it is in use by another program, or not permitted; close that program</source>
            <translation>no se puede abrir {name}: otro programa lo está usando, o no está permitido; cierre ese programa</translation>
        </message>
        <message>
            <source>{name} cannot be opened: it is in use by another program, or not permitted; close that program; allow it under {place}</source>
            <translation>no se puede abrir {name}: otro programa lo está usando, o no está permitido; cierre ese programa; permítalo en {place}</translation>
        </message>
        <message>
            <source>{name} cannot be opened: {reason}</source>
            <translation>{name} no se puede abrir: {reason}</translation>
        </message>
        <message>
            <source>{name} cannot be reached ({cause}): see that its app runs, that both are in the same network, and that the address and its port are right</source>
            <translation>no se puede llegar a {name} ({cause}): compruebe que su aplicación se ejecuta, que ambos están en la misma red y que la dirección y su puerto son correctos</translation>
        </message>
        <message>
            <source>{name} cannot be used: {problem}; close programs that may use it, or plug it in again</source>
            <translation>{name} no se puede usar: {problem}; cierre los programas que puedan usarla, o conéctela de nuevo</translation>
        </message>
        <message>
            <source>{name} changed its picture from {width_px} x {height_px} to {width} x {height}: it is opened anew</source>
            <translation>{name} cambió su imagen de {width_px} x {height_px} a {width} x {height}: se abre de nuevo</translation>
        </message>
        <message>
            <source>{name} changed its picture: got {shape}, expected {value}; open it again</source>
            <translation>{name} cambió su imagen: {shape}, se esperaba {value}; ábrala de nuevo</translation>
        </message>
        <message>
            <source>{name} could not be closed: {reason}</source>
            <translation>{name} no se pudo cerrar: {reason}</translation>
        </message>
        <message>
            <source>{name} could not be finished: {reason}</source>
            <translation>{name} no se pudo terminar: {reason}</translation>
        </message>
        <message>
            <source>{name} does not answer: got nothing within {seconds:g} s; see that its app runs, and that both are in the same network</source>
            <translation>{name} no responde: no llegó nada en {seconds:g} s; compruebe que su aplicación se ejecuta y que ambos están en la misma red</translation>
        </message>
        <message>
            <source>{name} does not answer: {users} attempts to read it hang in its driver; {remedy}, or choose another camera</source>
            <translation>{name} no responde: {users} intentos de lectura están colgados en su controlador; {remedy}, o elija otra cámara</translation>
        </message>
        <message>
            <source>{name} does not tell the ranges of its activations: write a file that does (`mcnet convert --int8`)</source>
            <translation>{name} no indica los rangos de sus activaciones: escriba un archivo que lo haga (`mcnet convert --int8`)</translation>
        </message>
        <message>
            <source>{name} ended without a frame</source>
            <translation>{name} terminó sin una imagen</translation>
        </message>
        <message>
            <source>{name} failed: {error}</source>
            <translation>{name} falló: {error}</translation>
        </message>
        <message>
            <source>{name} failed: {reason}</source>
            <translation>{name} falló: {reason}</translation>
        </message>
        <message>
            <source>{name} gave no frame within {seconds:g} s: {remedy}, or choose another camera</source>
            <translation>{name} no dio ninguna imagen en {seconds:g} s: {remedy}, o elija otra cámara</translation>
        </message>
        <message>
            <source>{name} gives no frames any more: unplugged, or taken by another program; plug it in again or close the other program</source>
            <translation>{name} ya no da imágenes: desconectada, o tomada por otro programa; conéctela de nuevo o cierre el otro programa</translation>
        </message>
        <message>
            <source>{name} gives no video ({cause}): look in its app for the video's address</source>
            <translation>{name} no da vídeo ({cause}): busque la dirección del vídeo en su aplicación</translation>
        </message>
        <message>
            <source>{name} gives no video: got a page or a file; use the address of the video itself, such as {scheme}://{address}{path}</source>
            <translation>{name} no da vídeo, sino una página o un archivo; use la dirección del propio vídeo, como {scheme}://{address}{path}</translation>
        </message>
        <message>
            <source>{name} gives no video: got a stream without pictures; look in its app for the video's address</source>
            <translation>{name} no da vídeo, sino un flujo sin imágenes; busque la dirección del vídeo en su aplicación</translation>
        </message>
        <message>
            <source>{name} gives pictures of {width} x {height}, expected at least {least_px} pixels per side: choose a larger size in its app</source>
            <translation>{name} da imágenes de {width} x {height}, se esperaban al menos {least_px} píxeles por lado: elija un tamaño mayor en su aplicación</translation>
        </message>
        <message>
            <source>{name} has closed the connection: see that its app still runs</source>
            <translation>{name} ha cerrado la conexión: compruebe que su aplicación sigue en marcha</translation>
        </message>
        <message>
            <source>{name} has ended; plug it in again, or choose another camera</source>
            <translation>{name} ha terminado; conéctela de nuevo, o elija otra cámara</translation>
        </message>
        <message>
            <source>{name} has given no frame for {seconds:g} s; it is opened anew. If that does not help, {remedy}, or choose another camera</source>
            <translation>{name} no ha dado ninguna imagen en {seconds:g} s; se abre de nuevo. Si eso no ayuda: {remedy}, o elija otra cámara</translation>
        </message>
        <message>
            <source>{name} has given no picture for {seconds:g} s: see that its app is in front, the phone awake, and both in the same network</source>
            <translation>{name} no ha dado ninguna imagen en {seconds:g} s: compruebe que su aplicación esté en primer plano, el teléfono despierto y ambos en la misma red</translation>
        </message>
        <message>
            <source>{name} has given the very same picture for {seconds:g} s: it is frozen and is opened anew. If that does not help, plug it in again</source>
            <translation>{name} ha dado exactamente la misma imagen durante {seconds:g} s: está congelada y se abre de nuevo. Si eso no ayuda, conéctela de nuevo</translation>
        </message>
        <message>
            <source>{name} has no video there ({cause}): look in its app for the video's address</source>
            <translation>{name} no tiene vídeo ahí ({cause}): busque la dirección del vídeo en su aplicación</translation>
        </message>
        <message>
            <source>{name} is a motion file, expected what gives pictures</source>
            <translation>{name} es un archivo de movimiento, se esperaba algo que dé imágenes</translation>
        </message>
        <message>
            <source>{name} is a recording, expected a live camera: download it, and give the file</source>
            <translation>{name} es una grabación, se esperaba una cámara en directo: descárguela e indique el archivo</translation>
        </message>
        <message>
            <source>{name} is in use by {users}; close that program</source>
            <translation>{name} la usa {users}; cierre ese programa</translation>
        </message>
        <message>
            <source>{name} is saved, but without Content Credentials: {why}.</source>
            <translation>{name} se guardó, pero sin credenciales de contenido: {why}.</translation>
        </message>
        <message>
            <source>{name} is there, but is not used: {lack}</source>
            <translation>{name} está, pero no se usa: {lack}</translation>
        </message>
        <message>
            <source>{name} wants another user name or password: give them in the address, as in http://USER:PASSWORD@HOST/video</source>
            <translation>{name} pide otro usuario o contraseña: indíquelos en la dirección, como en http://USER:PASSWORD@HOST/video</translation>
        </message>
        <message>
            <source>{name} was closed; open it again to read on</source>
            <translation>{name} se cerró; ábrala de nuevo para seguir leyendo</translation>
        </message>
        <message>
            <source>{name} was taken out of the gallery.</source>
            <translation>{name} se quitó de la galería.</translation>
        </message>
        <message>
            <source>{name}, a camera of another kind</source>
            <translation>{name}, una cámara de otro tipo</translation>
        </message>
        <message>
            <source>{name}, score {score} of 100</source>
            <translation>{name}, puntuación {score} de 100</translation>
        </message>
        <message>
            <source>{name}, {cores} cores, {threads} threads</source>
            <translation>{name}, {cores} núcleos, {threads} hilos</translation>
        </message>
        <message>
            <source>{name}: got no frame any more, expected a video; was the file changed?</source>
            <translation>{name}: no llegó ninguna imagen más, se esperaba un vídeo; ¿se cambió el archivo?</translation>
        </message>
        <message>
            <source>{name}: there is no such camera; {advice}</source>
            <translation>{name}: no existe tal cámara; {advice}</translation>
        </message>
        <message>
            <source>{name}: {complaint}</source>
            <translation>{name}: {complaint}</translation>
        </message>
        <message>
            <source>{name}: {text}</source>
            <translation>{name}: {text}</translation>
        </message>
        <message>
            <source>{number} from {hop}</source>
            <translation>{number} de {hop}</translation>
        </message>
        <message>
            <source>{number} more</source>
            <translation>{number} más</translation>
        </message>
        <message>
            <source>{number}%</source>
            <comment>percent</comment>
            <translation>{number} %</translation>
        </message>
        <message>
            <source>{p50:.0f} ms in app (p95 {p95:.0f})</source>
            <translation>{p50:.0f} ms en la aplicación (p95 {p95:.0f})</translation>
        </message>
        <message>
            <source>{path} ({name}) is a virtual camera that no program feeds, expected a webcam; choose another</source>
            <translation>{path} ({name}) es una cámara virtual que ningún programa alimenta, se esperaba una cámara web; elija otra</translation>
        </message>
        <message>
            <source>{path} ({name}) is not a capture device, expected a webcam; choose another</source>
            <translation>{path} ({name}) no es un dispositivo de captura, se esperaba una cámara web; elija otra</translation>
        </message>
        <message>
            <source>{path} cannot be read ({error}); check the path</source>
            <translation>no se puede leer {path} ({error}); revise la ruta</translation>
        </message>
        <message>
            <source>{path} cannot be read as a checkpoint: it is something else, or truncated or damaged; get it again</source>
            <translation>{path} no se puede leer como checkpoint: es otra cosa, o está cortado o dañado; consígalo de nuevo</translation>
        </message>
        <message>
            <source>{path} cannot be read as a motion file: {error}; copy or record it again</source>
            <translation>no se puede leer {path} como archivo de movimiento: {error}; cópielo o grábelo de nuevo</translation>
        </message>
        <message>
            <source>{path} cannot be read: {cause}</source>
            <translation>{path} no se puede leer: {cause}</translation>
        </message>
        <message>
            <source>{path} has a header that cannot be used: {error}; a newer version may have written it</source>
            <translation>{path} tiene una cabecera que no se puede usar: {error}; quizá la escribió una versión más nueva</translation>
        </message>
        <message>
            <source>{path} has {count} frames, expected at most {most}</source>
            <translation>{path} tiene {count} imágenes, se esperaban como máximo {most}</translation>
        </message>
        <message>
            <source>{path} holds no certificates ({error}); expected PEM, the signer's first</source>
            <translation>{path} no contiene certificados ({error}); se esperaba PEM, primero el del firmante</translation>
        </message>
        <message>
            <source>{path} holds no private key ({error}); expected PEM</source>
            <translation>{path} no contiene clave privada ({error}); se esperaba PEM</translation>
        </message>
        <message>
            <source>{path} is a damaged motion file: {error}; copy or record it again</source>
            <translation>{path} es un archivo de movimiento dañado: {error}; cópielo o grábelo de nuevo</translation>
        </message>
        <message>
            <source>{path} is a file of torch's, and {lack}: convert it once where torch is (`mcnet convert {name} model.safetensors --int8`), and use that</source>
            <translation>{path} es un archivo de torch, y {lack}: conviértalo una vez donde haya torch (`mcnet convert {name} model.safetensors --int8`), y use el resultado</translation>
        </message>
        <message>
            <source>{path} is a folder, a device or a pipe, and only a file can be used; choose another</source>
            <translation>{path} es una carpeta, un dispositivo o una tubería, y solo se puede usar un archivo; elija otro</translation>
        </message>
        <message>
            <source>{path} is a motion file of version {version}, this program knows versions up to {known}; use a newer one</source>
            <translation>{path} es un archivo de movimiento de la versión {version}, este programa conoce versiones hasta {known}; use uno más nuevo</translation>
        </message>
        <message>
            <source>{path} is cut short: got {size} bytes, expected {end}; get it again</source>
            <translation>{path} está cortado: {size} bytes, se esperaban {end}; consígalo de nuevo</translation>
        </message>
        <message>
            <source>{path} is damaged: its tensors hash to {got}, its header says {content_hash}; get it again</source>
            <translation>{path} está dañado: la huella de sus tensores es {got}, su cabecera dice {content_hash}; consígalo de nuevo</translation>
        </message>
        <message>
            <source>{path} is larger than {most} MB, expected a motion file; take a shorter one</source>
            <translation>{path} supera {most} MB, se esperaba un archivo de movimiento; tome uno más corto</translation>
        </message>
        <message>
            <source>{path} is no MCNet checkpoint: got {found}, expected dicts named {parts}</source>
            <translation>{path} no es un checkpoint de MCNet: hay {found}, se esperaban dicts llamados {parts}</translation>
        </message>
        <message>
            <source>{path} is no motion file: expected one that --save-motion or the app recorded</source>
            <translation>{path} no es un archivo de movimiento: se esperaba uno grabado por --save-motion o por la aplicación</translation>
        </message>
        <message>
            <source>{path} is no safetensors file that can be read ({said}): get it again</source>
            <translation>{path} no es un archivo safetensors legible ({said}): consígalo de nuevo</translation>
        </message>
        <message>
            <source>{path} is no safetensors file: its header is no table</source>
            <translation>{path} no es un archivo safetensors: su cabecera no es una tabla</translation>
        </message>
        <message>
            <source>{path} is no safetensors file: its header lists no tensors</source>
            <translation>{path} no es un archivo safetensors: su cabecera no enumera tensores</translation>
        </message>
        <message>
            <source>{path} is no whole safetensors file ({error}): it may be truncated; get it again</source>
            <translation>{path} no es un archivo safetensors completo ({error}): puede estar truncado; obténgalo de nuevo</translation>
        </message>
        <message>
            <source>{path} is no whole safetensors file: it may be truncated, or something else</source>
            <translation>{path} no es un archivo safetensors completo: quizá esté cortado, o sea otra cosa</translation>
        </message>
        <message>
            <source>{path} is not a model of ours: got format {found} in its header, expected {format}</source>
            <translation>{path} no es un modelo nuestro: el formato en su cabecera es {found}, se esperaba {format}</translation>
        </message>
        <message>
            <source>{path} is not a model of ours: got format {got} in its header, expected {format}</source>
            <translation>{path} no es un modelo nuestro: el formato en su cabecera es {got}, se esperaba {format}</translation>
        </message>
        <message>
            <source>{path} is refused: besides tensors it holds something that could run code when it is read ({wanted}); do not trust where it came from, or have it saved again with tensors only</source>
            <translation>{path} se rechaza: además de tensores contiene algo que podría ejecutar código al leerse ({wanted}); no se fíe de su procedencia, o haga que se guarde de nuevo solo con tensores</translation>
        </message>
        <message>
            <source>{path} was changed, and not all of it can be used: {said}. In place of that stays what this window has; {kept}.</source>
            <translation>{path} se modificó, y no todo su contenido se puede usar: {said}. En su lugar queda lo que tiene esta ventana; {kept}.</translation>
        </message>
        <message>
            <source>{path}: got suffix {suffix}, expected {kinds}</source>
            <translation>{path}: la extensión es {suffix}, se esperaba {kinds}</translation>
        </message>
        <message>
            <source>{path}: {key} is a tensor of {kind}, expected F32 or F16 as we write them: have the model saved again as one of these</source>
            <translation>{path}: {key} es un tensor de {kind}, se esperaba F32 o F16, como los escribimos: haga guardar el modelo de nuevo como uno de ellos</translation>
        </message>
        <message>
            <source>{path}: {part}.{key} is a {kind}, expected a name and a tensor</source>
            <translation>{path}: {part}.{key} es un {kind}, se esperaba un nombre y un tensor</translation>
        </message>
        <message>
            <source>{percent:.0f} %</source>
            <translation>{percent:.0f} %</translation>
        </message>
        <message>
            <source>{place} is a link, which the token of control from outside cannot be: remove it</source>
            <translation>{place} es un enlace, y el token del control externo no puede serlo: quítelo</translation>
        </message>
        <message>
            <source>{precision} (measured to be the fastest here)</source>
            <translation>{precision} (medido como lo más rápido aquí)</translation>
        </message>
        <message>
            <source>{precision} (which it multiplies best)</source>
            <translation>{precision} (que es lo que mejor multiplica)</translation>
        </message>
        <message>
            <source>{precision} (which it multiplies natively)</source>
            <translation>{precision} (que multiplica de forma nativa)</translation>
        </message>
        <message>
            <source>{problems}; and {number} more</source>
            <translation>{problems}; y {number} más</translation>
        </message>
        <message>
            <source>{rate_hz:g} per second</source>
            <translation>{rate_hz:g} por segundo</translation>
        </message>
        <message>
            <source>{reason}; nothing else computes on {device}: use device cpu</source>
            <translation>{reason}; nada más calcula en {device}: use el dispositivo cpu</translation>
        </message>
        <message>
            <source>{reason}; {lack}, so that nothing else computes: install it, or mend that</source>
            <translation>{reason}; {lack}, de modo que nada más calcula: instálelo, o arréglelo</translation>
        </message>
        <message>
            <source>{request} A second or two is enough (F).</source>
            <translation>{request} Basta con uno o dos segundos (F).</translation>
        </message>
        <message>
            <source>{request} The best frame of a second or two becomes the reference (F).</source>
            <translation>{request} La mejor imagen de uno o dos segundos pasa a ser la referencia (F).</translation>
        </message>
        <message>
            <source>{score} of 100</source>
            <translation>{score} de 100</translation>
        </message>
        <message>
            <source>{score} of 100, as calibrated before</source>
            <translation>{score} de 100, como se calibró antes</translation>
        </message>
        <message>
            <source>{score}: {remarks}</source>
            <translation>{score}: {remarks}</translation>
        </message>
        <message>
            <source>{sentence} {fix}.</source>
            <translation>{sentence} {fix}.</translation>
        </message>
        <message>
            <source>{sentence} {fix}: {command}</source>
            <translation>{sentence} {fix}: {command}</translation>
        </message>
        <message>
            <source>{size_px} px, {millions:.2g} M parameters</source>
            <translation>{size_px} px, {millions:.2g} M de parámetros</translation>
        </message>
        <message>
            <source>{tip} Double-click the name, or press Backspace, for {words}.</source>
            <translation>{tip} Haga doble clic en el nombre, o pulse Retroceso, para {words}.</translation>
        </message>
        <message>
            <source>{tip} Times Expression.</source>
            <translation>{tip} Multiplicado por «Expresión».</translation>
        </message>
        <message>
            <source>{tip} Times Motion.</source>
            <translation>{tip} Multiplicado por «Movimiento».</translation>
        </message>
        <message>
            <source>{trouble} A call hears nothing meanwhile; it is tried again.</source>
            <translation>{trouble} Una llamada no oye nada entretanto; se intenta de nuevo.</translation>
        </message>
        <message>
            <source>{trouble} Recordings go on, and are silent meanwhile.</source>
            <translation>{trouble} Las grabaciones continúan, y entretanto no tienen sonido.</translation>
        </message>
        <message>
            <source>{value:6.1f}</source>
            <translation>{value:6.1f}</translation>
        </message>
        <message>
            <source>{way}: {reason}</source>
            <translation>{way}: {reason}</translation>
        </message>
        <message>
            <source>{what} cannot be used: {error}</source>
            <translation>{what} no se puede usar: {error}</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a list</source>
            <translation>{what} {key}: {value}, se esperaba una lista</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a table of values</source>
            <translation>{what} {key}: {value}, se esperaba una tabla de valores</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {allowed}</source>
            <translation>{what} {key}: {value}, se esperaba {allowed}</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {kind}</source>
            <translation>{what} {key}: {value}, se esperaba {kind}</translation>
        </message>
        <message>
            <source>{what}.{name}: got {got}, expected a table</source>
            <translation>{what}.{name}: {got}, se esperaba una tabla</translation>
        </message>
        <message>
            <source>{what}.{name}: {complaint}</source>
            <translation>{what}.{name}: {complaint}</translation>
        </message>
        <message>
            <source>{what}: got {got}, expected a table of presets</source>
            <translation>{what}: {got}, se esperaba una tabla de preajustes</translation>
        </message>
        <message>
            <source>{where} does not hold the network it should: {problems}. Convert the original file again, or use another one</source>
            <translation>{where} no contiene la red que debería: {problems}. Convierta de nuevo el archivo original, o use otro</translation>
        </message>
        <message>
            <source>{where}: {key} holds NaN or infinite values, expected finite weights; if a training run diverged, use an earlier checkpoint of it</source>
            <translation>{where}: {key} contiene NaN o valores infinitos, se esperaban pesos finitos; si un entrenamiento divergió, use un checkpoint anterior suyo</translation>
        </message>
        <message>
            <source>{where}: {key} is a {kind} tensor, expected plain floating point</source>
            <translation>{where}: {key} es un tensor {kind}, se esperaba coma flotante simple</translation>
        </message>
        <message>
            <source>{width_px} x {height_px}, {fps_hz:.0f} fps</source>
            <translation>{width_px} x {height_px}, {fps_hz:.0f} fps</translation>
        </message>
        <message>
            <source>{widths} (the encoder's, reversed) when lateral is false</source>
            <translation>{widths} (los del codificador, al revés) cuando lateral es false</translation>
        </message>
        <message>
            <source>{words}.</source>
            <comment>a whole sentence</comment>
            <translation>{words}.</translation>
        </message>
        <message>
            <source>“AI avatar” badge</source>
            <translation>Distintivo «AI avatar»</translation>
        </message>
    </context>
</TS>
